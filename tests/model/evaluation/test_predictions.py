"""Probabilities to disk and back, averaged, and scored again."""

import math

import pyarrow.parquet as pq
import pytest
import torch

from model.evaluation.ensembles import average
from model.evaluation.predictions import Predictions, read_predictions, write_predictions

WNIDS = [f"n{number}" for number in range(7)]


def some(seed=0, num_images=50, wnids=WNIDS):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(num_images, len(wnids), generator=generator).softmax(dim=1)
    return Predictions([f"image-{n}" for n in range(num_images)], torch.arange(num_images) % len(wnids), probs, wnids)


def test_written_predictions_are_read_back_bit_for_bit(tmp_path):
    predictions = some()
    write_predictions(predictions, {"views": 10}, tmp_path / "p.parquet")
    again = read_predictions(tmp_path / "p.parquet")
    assert torch.equal(again.probs, predictions.probs)
    assert torch.equal(again.class_indices, predictions.class_indices)
    assert (again.image_ids, again.wnids) == (predictions.image_ids, predictions.wnids)


def test_a_row_holds_what_the_probabilities_say(tmp_path):
    probs = torch.tensor([[0.1, 0.2, 0.05, 0.3, 0.15, 0.12, 0.08]])
    write_predictions(Predictions(["x"], torch.tensor([1]), probs, WNIDS), {}, tmp_path / "p.parquet")
    row = pq.read_table(tmp_path / "p.parquet").to_pylist()[0]
    assert (row["wnid"], row["rank"]) == ("n1", 2)
    assert row["log_prob"] == pytest.approx(math.log(0.2))
    assert row["top5_wnid"] == ["n3", "n1", "n4", "n5", "n0"]
    assert row["top5_prob"] == pytest.approx([0.3, 0.2, 0.15, 0.12, 0.1])


def test_errors_can_be_made_again_from_the_columns_alone(tmp_path):
    predictions = some()
    write_predictions(predictions, {}, tmp_path / "p.parquet")
    frame = pq.read_table(tmp_path / "p.parquet").to_pandas()
    counts = predictions.count_errors()
    assert int((frame["rank"] > 1).sum()) == counts.top1_wrong
    assert int(sum(wnid not in best for wnid, best in zip(frame["wnid"], frame["top5_wnid"], strict=True))) == counts.top5_wrong
    assert -frame["log_prob"].mean() == pytest.approx(predictions.log_loss())


def test_fewer_than_five_classes_have_fewer_than_five_guesses(tmp_path):
    write_predictions(some(wnids=["n0", "n1", "n2"]), {}, tmp_path / "p.parquet")
    assert len(pq.read_table(tmp_path / "p.parquet").to_pylist()[0]["top5_wnid"]) == 3


def test_a_probability_of_zero_has_a_finite_log(tmp_path):
    assert math.isfinite(Predictions(["x"], torch.tensor([0]), torch.tensor([[0.0, 1.0]]), ["n0", "n1"]).log_loss())


def test_a_dropped_last_batch_is_an_error():
    with pytest.raises(ValueError, match="a dropped last batch or a repeated shard would do this"):
        Predictions(["a", "b"], torch.tensor([0, 1]), torch.ones(1, 7), WNIDS)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"text", lambda data: b""])
def test_a_predictions_file_that_is_not_whole_is_refused(tmp_path, damage):
    path = tmp_path / "p.parquet"
    write_predictions(some(), {}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="is not a whole predictions file"):
        read_predictions(path)


def test_a_missing_predictions_file_says_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="make it with python -m flows.evaluate"):
        read_predictions(tmp_path / "none.parquet")


def test_an_ensemble_is_the_mean_of_its_members_whatever_their_order():
    members = [some(seed) for seed in range(5)]
    together = average(members)
    expected = sum(member.probs.double() for member in members) / 5
    torch.testing.assert_close(together.probs.double(), expected, rtol=1e-6, atol=1e-9)
    assert torch.equal(average(members[::-1]).probs, together.probs)


def test_copies_of_one_member_equal_it():
    assert torch.equal(average([some()] * 4).probs, some().probs)


def test_an_ensemble_larger_than_a_chunk_keeps_every_image():
    assert torch.equal(average([some(num_images=2500)] * 2).probs, some(num_images=2500).probs)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "an ensemble of no members"),
        ([some(), some(num_images=49)], "members that saw different images: 50 and 49"),
        ([some(), some(wnids=WNIDS[:5])], "members with different classes: 7 and 5"),
        ([some(), some(wnids=WNIDS[::-1])], "members with different classes: 7 and 7, or another order"),
    ],
)
def test_members_that_do_not_fit_are_refused(members, message):
    with pytest.raises(ValueError, match=message):
        average(members)
