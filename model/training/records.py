"""What the steps of a training did: in memory, in a checkpoint and in `metrics.parquet`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from base.files import atomic_write
from model.evaluation.error_rates import ErrorCounts
from model.training.schedule import Rates

METRICS = pa.schema(
    [
        ("step", pa.int64()),
        ("epoch", pa.int64()),
        ("learning_rate", pa.float64()),
        ("bias_learning_rate", pa.float64()),
        ("loss", pa.float64()),
        ("seconds", pa.float64()),
        ("wait_seconds", pa.float64()),
        ("val_seconds", pa.float64()),
        ("train_num_images", pa.int64()),
        ("train_top1_wrong", pa.int64()),
        ("train_top5_wrong", pa.int64()),
        ("val_num_images", pa.float64()),  # null in most rows, which pandas reads as a float
        ("val_top1_wrong", pa.float64()),
        ("val_top5_wrong", pa.float64()),
        ("images_per_second", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Record:
    """What some steps did: as many as a record holds, or fewer at the end of an epoch."""

    step: int
    """Updates since the training began."""
    epoch: int
    """From 1."""
    learning_rate: float
    """Of the weights."""
    bias_learning_rate: float
    loss: float
    """Mean cross-entropy over the images of these steps, in nats."""
    train: ErrorCounts
    """On the crops trained on, with dropout."""
    val: ErrorCounts | None
    """On the centre view, after the last step of an epoch; None if it was not measured."""
    seconds: float
    """Of these steps, without validation."""
    wait_seconds: float
    """Part of `seconds` during which the network waited for images."""
    val_seconds: float


@dataclass
class Sums:
    """The totals since the last record."""

    steps: int = 0
    loss: float = 0.0
    """Sum over images."""
    train: ErrorCounts = field(default_factory=lambda: ErrorCounts(0, 0, 0))
    seconds: float = 0.0
    wait_seconds: float = 0.0

    def forget_images(self) -> None:
        """Set the totals over images to zero."""
        self.loss, self.train = 0.0, ErrorCounts(0, 0, 0)


@dataclass
class State:
    """The place in the training. The rest of it depends on this and on the tensors of the network and the optimiser only."""

    epoch: int = 0
    """The current one, from 0."""
    images: int = 0
    """Images of this epoch that are done."""
    step: int = 0
    """Updates since the training began."""
    sums: Sums = field(default_factory=Sums)
    records: list[Record] = field(default_factory=list)

    def record(self, rates: Rates, val: ErrorCounts | None = None, val_seconds: float = 0.0) -> Record:
        """Return the record of the steps since the last one."""
        sums = self.sums
        loss = sums.loss / sums.train.num_images
        return Record(self.step, self.epoch + 1, *rates, loss, sums.train, val, sums.seconds, sums.wait_seconds, val_seconds)

    def close(self, rates: Rates, val: ErrorCounts | None = None, val_seconds: float = 0.0) -> None:
        """Append that record and reset the totals."""
        self.records.append(self.record(rates, val, val_seconds))
        self.sums = Sums()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "State":
        """Return the state that `to_dict` was called on."""
        return TypeAdapter(cls).validate_python(values)


def val_errors(records: Sequence[Record]) -> list[float]:
    """Return the top-1 errors of the epochs that were measured."""
    return [record.val.top1_error for record in records if record.val is not None]


def merge(records: Sequence[Record]) -> Record:
    """Return one record of what the steps of consecutive records did, such as those of an epoch."""
    last = records[-1]
    train = sum((record.train for record in records[1:]), start=records[0].train)
    loss = sum(record.loss * record.train.num_images for record in records) / train.num_images
    seconds, waited = sum(record.seconds for record in records), sum(record.wait_seconds for record in records)
    return replace(last, loss=loss, train=train, seconds=seconds, wait_seconds=waited)


def by_epoch(records: Sequence[Record]) -> list[Record]:
    """Return one record per epoch."""
    return [merge(list(group)) for _, group in groupby(records, key=lambda record: record.epoch)]


def as_table(records: Sequence[Record]) -> pa.Table:
    """Return one row per record; counts become columns such as `train_top1_wrong` and `val_num_images`."""
    return pa.Table.from_pylist([_row(record) for record in records], schema=METRICS)


def write_metrics(records: Sequence[Record], path: Path) -> None:
    """Write `metrics.parquet`."""
    with atomic_write(path) as file:
        pq.write_table(as_table(records), file)


def _row(record: Record) -> dict[str, Any]:
    row = {**vars(record), "images_per_second": record.train.num_images / record.seconds}
    for name in ("train", "val"):
        counts = row.pop(name)
        row |= {f"{name}_{count}": value for count, value in asdict(counts).items()} if counts is not None else {}
    return row
