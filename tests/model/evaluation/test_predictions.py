"""Probabilities are written and read back, part by part, and error rates recomputed from the columns alone."""

import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from base.errors import InputError
from model.evaluation.error_rates import ErrorCounts, count_errors
from model.evaluation.predictions import join_parts, open_predictions, write_part

ABOUT = {"wnids": [f"n{number}" for number in range(7)], "views": 10}
ROW = torch.tensor([[0.1, 0.2, 0.05, 0.3, 0.15, 0.12, 0.08]])


def test_written_probabilities_are_read_back_bit_for_bit(write_file):
    probs = torch.rand(2500, 7, generator=torch.Generator().manual_seed(3))
    blocks = list(write_file(probs=probs).probs())
    assert [len(block) for block in blocks] == [128] * 19 + [68]
    assert np.array_equal(np.concatenate(blocks), probs.numpy())


def test_a_file_names_what_made_it(write_file):
    file = write_file(views=10, decoder="DALI")
    assert (file.about["views"], file.about["decoder"], len(file)) == (10, "DALI", 50)
    assert file.wnids == ABOUT["wnids"]


def test_a_row_follows_from_the_probabilities(tmp_path):
    write_part(tmp_path / "p.parquet", ["x"], np.array([1]), ROW, ABOUT)
    row = pq.read_table(tmp_path / "p.parquet").to_pylist()[0]
    assert (row["image_id"], row["wnid"], row["rank"]) == ("x", "n1", 2)
    assert row["log_prob"] == pytest.approx(math.log(0.2))
    assert row["top5_wnid"] == ["n3", "n1", "n4", "n5", "n0"]
    assert row["top5_prob"] == pytest.approx([0.3, 0.2, 0.15, 0.12, 0.1])
    assert row["probs"] == pytest.approx(ROW[0].tolist())


def test_errors_can_be_recomputed_from_the_columns_alone(write_file):
    file = write_file()
    frame = pd.read_parquet(file.path)
    counts = file.answers().count_errors()
    assert counts == count_errors(torch.tensor(np.stack(frame["probs"])), torch.tensor(file.class_indices))
    assert int((frame["rank"] > 1).sum()) == counts.top1_wrong
    assert int(sum(wnid not in best for wnid, best in zip(frame["wnid"], frame["top5_wnid"], strict=True))) == counts.top5_wrong
    assert -frame["log_prob"].mean() == pytest.approx(file.answers().log_loss())


def test_ties_are_counted_alike_in_ranks_and_in_best_classes(write_file):
    """If all classes are equal, the first five are the answer, and only they are right."""
    file = write_file(probs=torch.full((7, 7), 1 / 7))
    answers = file.answers()
    assert answers.labels.ranks.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert answers.best.tolist() == [[0, 1, 2, 3, 4]] * 7
    assert answers.count_errors() == ErrorCounts(7, 6, 2)


def test_fewer_than_five_classes_have_fewer_than_five_guesses(write_file):
    assert write_file(num_classes=3).answers().best.shape == (50, 3)


def test_a_probability_of_zero_has_a_finite_log(write_file):
    assert math.isfinite(write_file(probs=torch.tensor([[0.0, 1.0]]), true=[0]).answers().log_loss())


def test_without_labels_what_depends_on_them_is_null(write_file):
    file = write_file(true=None)
    frame = pd.read_parquet(file.path)
    assert frame[["wnid", "rank", "log_prob"]].isna().all().all()
    answers = file.answers()
    assert (answers.labels, answers.count_errors(), answers.log_loss()) == (None, None, None)
    assert answers.best.shape == (50, 5)


def test_above_two_thousand_classes_there_are_no_full_probabilities(write_file):
    file = write_file(num_images=3, num_classes=2001)
    assert "probs" not in pq.read_schema(file.path).names
    assert file.answers().count_errors().num_images == 3
    with pytest.raises(InputError, match="has 2,001 classes and keeps no full probabilities above 2,000"):
        next(file.probs())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_probabilities_that_are_not_finite_are_refused(tmp_path, bad):
    """No number is above NaN, so such an image would be counted as right."""
    probs = ROW.clone()
    probs[0, 1] = bad
    with pytest.raises(InputError, match="not finite numbers; the weights of the network or its inputs are broken"):
        write_part(tmp_path / "p.parquet", ["x"], np.array([1]), probs, ABOUT)


def test_a_dropped_last_batch_is_a_bug(tmp_path):
    with pytest.raises(ValueError, match="a dropped last batch or a repeated shard would do this"):
        write_part(tmp_path / "p.parquet", ["a", "b"], np.array([0, 1]), ROW, ABOUT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"text", lambda data: b""])
def test_a_predictions_file_that_is_cut_short_is_refused(write_file, damage):
    path = write_file().path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="0.parquet is not a whole predictions file .*; predict again"):
        open_predictions(path)


def test_another_parquet_file_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match="is not a whole predictions file"):
        open_predictions(tmp_path / "p.parquet")


def test_a_missing_predictions_file_says_how_to_make_it(tmp_path):
    with pytest.raises(InputError, match="make it with python -m flows.evaluate"):
        open_predictions(tmp_path / "none.parquet")


def parts(tmp_path, names=("a", "b")):
    paths = [tmp_path / f"{name}.parquet" for name in names]
    for path in paths:
        write_part(path, [f"{path.stem}1", f"{path.stem}2"], np.array([0, 1]), ROW.repeat(2, 1), ABOUT)
    return paths


def test_parts_are_joined_in_the_order_given(tmp_path):
    join_parts(parts(tmp_path), ["a1", "a2", "b1", "b2"], tmp_path / "whole.parquet")
    whole = open_predictions(tmp_path / "whole.parquet")
    assert whole.image_ids == ["a1", "a2", "b1", "b2"]
    assert whole.about == ABOUT
    assert whole.class_indices.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("names", "images", "message"),
    [
        ("a", ["a1", "a2", "b1", "b2"], "hold 2 images, 2 of them different, but its shards hold 4, or others"),
        ("aa", ["a1", "a2", "b1", "b2"], "hold 4 images, 2 of them different, but its shards hold 4, or others"),
        ("ba", ["a1", "a2", "b1", "b2"], "hold 4 images, 4 of them different, but its shards hold 4, or others"),
        ("ab", ["a1", "a2"], "hold 4 images, 4 of them different, but its shards hold 2, or others"),
    ],
)
def test_parts_without_every_image_once_are_refused(tmp_path, names, images, message):
    found = parts(tmp_path, dict.fromkeys(names))
    chosen = [path for name in names for path in found if path.stem == name]
    with pytest.raises(InputError, match=message):
        join_parts(chosen, images, tmp_path / "whole.parquet")
    assert not (tmp_path / "whole.parquet").exists()


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(InputError, match="c.parquet"):
        join_parts([*parts(tmp_path), tmp_path / "c.parquet"], ["a1", "a2", "b1", "b2"], tmp_path / "whole.parquet")
