"""By how much the error of the same weights differs between validation and another test set, or other labels.

Called by `model.evaluation.tables`. Other images are an independent sample. Other labels are those of the same images, so the
interval is that of the bootstrap over images.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from model.evaluation.answers import Answers
from model.evaluation.comparisons import NUM_RESAMPLES, SEED
from model.evaluation.error_rates import NUM_BEST
from model.evaluation.intervals import Interval, newcombe_interval
from model.evaluation.rows import Evaluation, Measured, measured_row
from model.evaluation.schemas import Row


def shift_rows(
    val: Sequence[Measured], val_evaluation: Evaluation, other: Sequence[Measured], evaluation: Evaluation
) -> list[Row]:
    """Return a row of `shifts` for each network or ensemble and rank; both sequences hold the same ones, in the same order.

    Raises:
        ValueError: they hold others.
    """
    if [one.ensemble for one in val] != [one.ensemble for one in other]:
        raise ValueError("a shift compares the same weights; these are others")
    pairs = zip(val, other, strict=True)
    return [row for before, after in pairs for row in _shifts(before, val_evaluation, after, evaluation)]


def _shifts(val: Measured, val_evaluation: Evaluation, other: Measured, evaluation: Evaluation) -> Iterator[Row]:
    before, after = measured_row(val, val_evaluation), measured_row(other, evaluation)
    same_images = evaluation.labels != val_evaluation.labels
    for rank in (1, NUM_BEST):
        top = f"top{rank}"
        interval = _paired(val.answers, other.answers, rank) if same_images else _independent(before, after, top)
        yield {
            **other.columns,
            **evaluation.columns,
            "table": other.table,
            "rank": rank,
            **_side(before, top, "val_"),
            "val_dataset": before["dataset"],
            "val_split": before["split"],
            "val_shards": before["shards"],
            **_side(after, top, ""),
            "difference": after[f"{top}_error"] - before[f"{top}_error"],
            "difference_low": interval.low,
            "difference_high": interval.high,
        }


def _side(row: Row, top: str, prefix: str) -> Row:
    names = {"num_images": "num_images", **{name: f"{top}_{name}" for name in ("wrong", "error", "low", "high")}}
    return {f"{prefix}{name}": row[column] for name, column in names.items()}


def _independent(val: Row, other: Row, top: str) -> Interval:
    (a, a_interval), (b, b_interval) = (
        (row[f"{top}_error"], Interval(row[f"{top}_low"], row[f"{top}_high"])) for row in (other, val)
    )
    return newcombe_interval(a, a_interval, b, b_interval)


def _paired(val: Answers, other: Answers, rank: int) -> Interval:
    """Return the interval of the difference if images are drawn with replacement, each with both of its answers.

    `other` lacks images without a label. The number of each kind of image (wrong before or not; wrong, right or without a label
    after) has a multinomial distribution, which is drawn directly.
    """
    if val.labels is None or other.labels is None:
        raise ValueError("images without labels have no error")
    wrong_after = dict(zip(other.image_ids, other.labels.ranks > rank, strict=True))
    kinds = np.zeros((2, 3), np.int64)
    for image_id, wrong in zip(val.image_ids, val.labels.ranks > rank, strict=True):
        kinds[int(wrong), int(wrong_after.get(image_id, 2))] += 1
    n = int(kinds.sum())
    draws = np.random.Generator(np.random.PCG64(SEED)).multinomial(n, kinds.ravel() / n, NUM_RESAMPLES).reshape(-1, 2, 3)
    after = draws[:, :, 1].sum(1) / np.maximum(draws[:, :, :2].sum((1, 2)), 1)
    low, high = np.quantile(after - draws[:, 1].sum(1) / n, [0.025, 0.975])
    return Interval(float(low), float(high))
