"""A shift is the error on another set less that on validation, with the interval that fits the images."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.evaluation.answers import Answers, Labels
from model.evaluation.gaps import gaps
from model.evaluation.intervals import newcombe_interval, wilson_interval
from model.evaluation.published import error_rates
from model.evaluation.schemas import SHIFTS
from model.evaluation.selection import latest
from model.evaluation.shifts import shift_rows
from model.evaluation.tables import write_shifts, write_tables


@pytest.fixture
def on_v2(evaluation):
    return replace(evaluation, dataset="imagenet-v2-top-images", split="test", shards="other-shards")


def scored(one, ranks, ids=None):
    """Return a network with answers of these ranks."""
    ids = [f"image-{n}" for n in range(len(ranks))] if ids is None else ids
    labels = Labels(np.zeros(len(ranks), np.int64), np.array(ranks), np.zeros(len(ranks)))
    return replace(one, answers=Answers(ids, ["n0", "n1"], np.zeros((len(ranks), 2), np.int64), labels))


def test_other_images_are_an_independent_sample(measured, evaluation, on_v2):
    val, other = scored(measured(), [1] * 60 + [3] * 40), scored(measured(), [1] * 20 + [4] * 20 + [9] * 10)
    first, second = shift_rows([val], evaluation, [other], on_v2)
    assert (first["rank"], first["val_wrong"], first["val_num_images"], first["wrong"], first["num_images"]) == (
        1,
        40,
        100,
        30,
        50,
    )
    assert first["difference"] == pytest.approx(0.2)
    expected = newcombe_interval(0.6, wilson_interval(30, 50), 0.4, wilson_interval(40, 100))
    assert (first["difference_low"], first["difference_high"]) == expected
    assert (second["rank"], second["val_wrong"], second["wrong"], second["difference"]) == (5, 0, 10, 0.2)
    assert (first["dataset"], first["shards"]) == ("imagenet-v2-top-images", "other-shards")
    assert (first["val_dataset"], first["val_split"], first["val_shards"]) == ("synthetic", "val", "shards-digest")
    assert set(first) == set(SHIFTS.names)


def test_other_labels_are_compared_on_the_same_images(measured, evaluation):
    """Where both labels agree nothing changes with the images drawn: the interval is narrower than that of two samples."""
    ranks = [1] * 600 + [3] * 400
    val, real = scored(measured(), ranks), scored(measured(), [1] * 650 + [3] * 300, [f"image-{n}" for n in range(950)])
    first, _ = shift_rows([val], evaluation, [real], replace(evaluation, labels="real"))
    assert first["difference"] == pytest.approx(300 / 950 - 0.4)
    assert first["labels"] == "real"
    low, high = first["difference_low"], first["difference_high"]
    assert low < first["difference"] < high
    apart = newcombe_interval(300 / 950, wilson_interval(300, 950), 0.4, wilson_interval(400, 1000))
    assert high - low < 0.5 * (apart.high - apart.low)
    same, _ = shift_rows([val], evaluation, [val], replace(evaluation, labels="real"))
    assert (same["difference"], same["difference_low"], same["difference_high"]) == (0, 0, 0)


def test_shifts_of_other_weights_are_a_bug(measured, evaluation, on_v2):
    with pytest.raises(ValueError, match="a shift compares the same weights"):
        shift_rows([measured(members=("w1",))], evaluation, [measured(members=("w2",))], on_v2)


def test_no_row_of_another_set_hides_a_plain_one_or_enters_the_gaps(measured, evaluation, on_v2, tmp_path):
    """The paper's tenth of a point is about ILSVRC-2012's own test images."""
    plain, others = (
        measured(),
        [
            evaluation,
            replace(evaluation, labels="real"),
            replace(evaluation, classes="imagenet-a"),
            replace(on_v2, dataset="imagenet-a", classes="imagenet-a"),
            on_v2,
        ],
    )
    rows = [row for on in others for row in write_tables([plain], on, tmp_path)]
    shifts = [row for on in others[1:] for row in shift_rows([plain], evaluation, [plain], on)]
    write_shifts(shifts[:4], tmp_path)
    table = pq.read_table(write_shifts(shifts[4:], tmp_path))
    assert table.schema.equals(SHIFTS)
    assert len(table) == 8
    rates = error_rates(None, rows)
    kept = [row for row in latest(rates).to_pylist() if row["source"] == "measured"]
    assert [(row["dataset"], row["labels"], row["classes"]) for row in kept] == [
        (on.dataset, on.labels, on.classes) for on in others
    ]
    assert not [gap for gap in gaps(rates).to_pylist() if gap["source"] == "measured"]
