"""What each epoch did, in memory, in a checkpoint and in `metrics.parquet`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from model.evaluation.error_rates import ErrorCounts


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did."""

    epoch: int
    """From 1."""
    learning_rate: float
    loss: float
    """Mean cross-entropy over the epoch's images, in nats."""
    train: ErrorCounts
    """On the crops trained on, with dropout."""
    val: ErrorCounts | None
    """On the centre view; None where the epoch was not measured."""
    seconds: float
    wait_seconds: float
    """Of those, how long the network waited for images."""

    @property
    def images_per_second(self) -> float:
        """Of the whole epoch, its validation included."""
        return self.train.num_images / self.seconds


def record_from_dict(row: dict[str, Any]) -> EpochRecord:
    """Undo `dataclasses.asdict`."""
    val = None if row["val"] is None else ErrorCounts(**row["val"])
    return EpochRecord(**{**row, "train": ErrorCounts(**row["train"]), "val": val})


def val_errors(records: Sequence[EpochRecord]) -> list[float]:
    """Top-1 errors of the epochs that were measured."""
    return [record.val.top1_error for record in records if record.val is not None]


def as_frame(records: Sequence[EpochRecord]) -> pd.DataFrame:
    """One row an epoch; counts become `train_top1_wrong`, `val_num_images` and so on."""
    return pd.json_normalize([asdict(record) for record in records], sep="_")
