"""What a stretch of training did, in memory, in a checkpoint and in `metrics.parquet`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from model.evaluation.error_rates import ErrorCounts
from model.training.schedule import Rates


@dataclass(frozen=True)
class Record:
    """What some steps did: as many as were asked for, or fewer at the end of an epoch."""

    step: int
    """Updates since the training began."""
    epoch: int
    """From 1."""
    learning_rate: float
    """Of the weights."""
    bias_learning_rate: float
    loss: float
    """Mean cross-entropy over these steps' images, in nats."""
    train: ErrorCounts
    """On the crops trained on, with dropout."""
    val: ErrorCounts | None
    """On the centre view, after an epoch's last step; None where it was not measured."""
    seconds: float
    """Of these steps, validation apart."""
    wait_seconds: float
    """Of those, how long the network waited for images."""
    val_seconds: float


@dataclass
class Sums:
    """What is being added up until the next record."""

    steps: int = 0
    loss: float = 0.0
    """Over images."""
    train: ErrorCounts = field(default_factory=lambda: ErrorCounts(0, 0, 0))
    seconds: float = 0.0
    wait_seconds: float = 0.0

    def forget_images(self) -> None:
        """Count none of the images so far."""
        self.loss, self.train = 0.0, ErrorCounts(0, 0, 0)


@dataclass
class State:
    """How far a training is. With the network's and the optimiser's tensors it is all that the rest depends on."""

    epoch: int = 0
    """From 0: the one that is under way."""
    images: int = 0
    """Of this epoch, learnt from."""
    step: int = 0
    """Updates since the training began."""
    sums: Sums = field(default_factory=Sums)
    records: list[Record] = field(default_factory=list)

    def close(self, rates: Rates, val: ErrorCounts | None, val_seconds: float) -> Record:
        """Make a record of what was added up, and begin anew."""
        sums, self.sums = self.sums, Sums()
        loss = sums.loss / sums.train.num_images
        self.records.append(
            Record(self.step, self.epoch + 1, *rates, loss, sums.train, val, sums.seconds, sums.wait_seconds, val_seconds)
        )
        return self.records[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "State":
        """Undo `to_dict`."""
        return TypeAdapter(cls).validate_python(values)


def val_errors(records: Sequence[Record]) -> list[float]:
    """Top-1 errors of the epochs that were measured."""
    return [record.val.top1_error for record in records if record.val is not None]


def as_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record; counts become `train_top1_wrong`, `val_num_images` and so on."""
    frame = pd.json_normalize([asdict(record) for record in records], sep="_")
    frame["images_per_second"] = frame["train_num_images"] / frame["seconds"]
    return frame.drop(columns="val", errors="ignore")


def merge(records: Sequence[Record]) -> Record:
    """Return what these neighbouring records' steps did together, such as those of an epoch."""
    last = records[-1]
    train = sum((record.train for record in records[1:]), start=records[0].train)
    loss = sum(record.loss * record.train.num_images for record in records) / train.num_images
    seconds, waited = sum(record.seconds for record in records), sum(record.wait_seconds for record in records)
    return replace(last, loss=loss, train=train, seconds=seconds, wait_seconds=waited)


def by_epoch(records: Sequence[Record]) -> list[Record]:
    """Return one record an epoch."""
    return [merge(list(group)) for _, group in groupby(records, key=lambda record: record.epoch)]
