"""Vectors by shard: features, pixels or packed codes of every image of a split, in the order of its tars.

A part is an uncompressed Arrow file (pandas.read_feather opens it) with one row per image and the columns `key` (string),
`wnid` (string, null without labels) and `vector` (a list of fixed size: float32 or float16 features, uint8 pixels, or the
bytes of a code). The metadata `vectors` of its schema is JSON: what made it. A part depends on its rows only, not on the
batches they came in. Written by the workers that embed and encode; read by everything else in `model.retrieval`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from base.errors import InputError
from base.files import atomic_write

METADATA_KEY = b"vectors"
BATCH_BYTES = 16 * 2**20
"""(ours) Bytes of vectors in a record batch: one row at least, and little memory for a reader."""
BLOCK_BYTES = 128 * 2**20
"""(ours) 8,192 features of 4096 values in float32."""
BLOCK_ROWS = 8192

Values = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.uint8]
TYPES = {np.dtype("float32"): pa.float32(), np.dtype("float16"): pa.float16(), np.dtype("uint8"): pa.uint8()}


class Block(NamedTuple):
    """Some consecutive rows of a database."""

    start: int
    """The number of the first row."""
    values: Values
    """(N, D)"""

    @property
    def stop(self) -> int:
        """One more than the number of the last row."""
        return self.start + len(self.values)


def write_vectors(path: Path, keys: Sequence[str], wnids: Sequence[str] | None, values: Values, about: dict[str, Any]) -> None:
    """Write one row per image, in the order given. `about` says what made them.

    Raises:
        InputError: a value is not a finite number; in float16, because it is above 65,504.
        ValueError: there is not one vector and one label per key.
    """
    if values.ndim != 2 or not len(keys) == len(values) == len(keys if wnids is None else wnids):
        raise ValueError(f"vectors of shape {values.shape} and labels do not fit {len(keys):,} images")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise InputError(f"the vector of {keys[place]} has values that are not finite numbers; use other weights, or float32")
    labels = pa.nulls(len(keys), pa.string()) if wnids is None else pa.array(wnids, pa.string())
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), TYPES[values.dtype])
    rows = pa.record_batch(
        [pa.array(keys, pa.string()), labels, pa.FixedSizeListArray.from_arrays(flat, values.shape[1])],
        schema=_schema(values, about),
    )
    step = max(1, BATCH_BYTES // (values.shape[1] * values.itemsize))
    with atomic_write(path) as file, pa.ipc.new_file(file, rows.schema) as writer:
        for start in range(0, len(keys), step):
            writer.write_batch(rows.slice(start, step))


def open_vectors(paths: Sequence[Path]) -> "Vectors":
    """Open the parts of a split, in the order of its shards, and read keys and labels, not yet the vectors.

    Raises:
        InputError: a part is missing, damaged or unlike the others, or two images have the same key.
    """
    if not paths:
        raise InputError("no vectors to open; expected one file per shard")
    parts = [_open_part(path) for path in paths]
    for part in parts:
        if (part.num_values, part.dtype) != (parts[0].num_values, parts[0].dtype):
            raise InputError(
                f"{part.path} has vectors of {part.num_values:,} {part.dtype} and {parts[0].path} of "
                f"{parts[0].num_values:,} {parts[0].dtype}; expected the parts of one split"
            )
    vectors = Vectors(tuple(parts))
    if len(vectors.keys.unique()) != len(vectors):
        raise InputError(f"{paths[0].parent} has {len(vectors):,} vectors but fewer different keys; expected each image once")
    return vectors


class Run(NamedTuple):
    """Vectors that are next to each other in a file: those of a record batch."""

    path: Path
    offset: int
    """Of the first byte."""
    size: int
    """Vectors."""


@dataclass(frozen=True, eq=False)
class Part:
    """One file, whose vectors are read when they are needed."""

    path: Path
    runs: tuple[Run, ...]
    num_values: int
    dtype: np.dtype[Any]
    keys: pa.Array
    wnids: pa.Array
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of a split, in the order of its tars."""

    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def num_values(self) -> int:
        """D, the values of a vector."""
        return self.parts[0].num_values

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type."""
        return self.parts[0].dtype

    @property
    def about(self) -> dict[str, Any]:
        """What made the first part."""
        return self.parts[0].about

    @cached_property
    def keys(self) -> pa.Array:
        """The key of each row."""
        return pa.concat_arrays([part.keys for part in self.parts])

    @cached_property
    def wnids(self) -> pa.Array:
        """The WNID of each row; null without labels."""
        return pa.concat_arrays([part.wnids for part in self.parts])

    @cached_property
    def key_order(self) -> NDArray[np.int64]:
        """The position of each row's key among all keys in sorted order: neighbours at equal distances are sorted by it."""
        order = np.asarray(pc.sort_indices(self.keys)).astype(np.int64)
        positions = np.empty_like(order)
        positions[order] = np.arange(len(order))
        return positions

    @cached_property
    def runs(self) -> list[Run]:
        """All vectors in their order."""
        return [run for part in self.parts for run in part.runs]

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """(runs,) How many rows the runs up to each one have."""
        return np.cumsum([run.size for run in self.runs])

    @cached_property
    def mapped(self) -> list[Values]:
        """The vectors of each run in a memory map."""
        maps = (np.memmap(run.path, self.dtype, "r", run.offset, (run.size, self.num_values)) for run in self.runs)
        return [np.asarray(one) for one in maps]  # which index faster

    @property
    def block_rows(self) -> int:
        """The largest number of rows that a block should have."""
        return max(1, min(BLOCK_ROWS, BLOCK_BYTES // (self.num_values * self.dtype.itemsize)))

    def blocks(self, rows: range | None = None, size: int | None = None) -> Iterator[Block]:
        """Yield all rows, or those in `rows`, in blocks of `size`; one block is in memory at a time."""
        rows, size = range(len(self)) if rows is None else rows, size or self.block_rows
        values = np.empty((min(size, len(rows)), self.num_values), self.dtype)
        for start in range(rows.start, rows.stop, size):
            yield Block(start, self._fill(values[: rows.stop - start], start))

    def take(self, rows: NDArray[np.int64]) -> Values:
        """Return the vectors of these rows (N, D), in this order, from a memory map."""
        taken = np.empty((len(rows), self.num_values), self.dtype)
        numbers = np.searchsorted(self.ends, rows, side="right")
        places = rows - self.ends[numbers]  # from the end of the run
        for vector, number, place in zip(taken, numbers, places, strict=True):
            vector[:] = self.mapped[number][place]
        return taken

    def read(self, rows: range | None = None) -> Values:
        """Return all vectors, or those in `rows`, (N, D)."""
        rows = range(len(self)) if rows is None else rows
        return self._fill(np.empty((len(rows), self.num_values), self.dtype), rows.start)

    def _fill(self, values: Values, start: int) -> Values:
        """Read rows from `start` on. What is read of a memory map would count as memory of the process."""
        row, stop = start, start + len(values)
        for number in range(int(np.searchsorted(self.ends, start, side="right")), len(self.runs)):
            if row == stop:
                break
            run, end = self.runs[number], min(int(self.ends[number]), stop)
            first = row - (int(self.ends[number]) - run.size)
            with open(run.path, "rb") as file:
                file.seek(run.offset + first * values.strides[0])
                if file.readinto(values[row - start : end - start].data.cast("B")) != (end - row) * values.strides[0]:
                    raise InputError(f"{run.path} was cut short while it was read; make it again")
            row = end
        return values


def _open_part(path: Path) -> Part:
    """Read everything but the vectors.

    Raises:
        InputError: there is no such file, it is not a file of vectors, or it is cut short.
    """
    if not path.is_file():
        raise InputError(f"no vectors {path}; expected the file of a finished shard: make it first")
    try:
        with pa.memory_map(str(path)) as file:
            first_byte, reader = file.read_buffer().address, pa.ipc.open_file(file)
            about, vector = json.loads(reader.schema.metadata[METADATA_KEY]), reader.schema.field("vector").type
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            offsets = [batch["vector"].flatten().buffers()[1].address - first_byte for batch in batches]
            keys, wnids = (_names(batches, column) for column in ("key", "wnid"))
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        reason = type(error).__name__
        raise InputError(f"{path} is not a whole file of vectors ({reason}); delete it to make it again") from error
    runs = tuple(Run(path, offset, len(batch)) for offset, batch in zip(offsets, batches, strict=True))
    return Part(path, runs, vector.list_size, np.dtype(vector.value_type.to_pandas_dtype()), keys, wnids, about)


def _names(batches: Sequence[pa.RecordBatch], column: str) -> pa.Array:
    """Copy a column of strings, so that the file need not stay open."""
    return pa.array([name for batch in batches for name in batch[column].to_pylist()], pa.string())


def _schema(values: Values, about: dict[str, Any]) -> pa.Schema:
    vector = pa.list_(TYPES[values.dtype], values.shape[1])
    fields = [("key", pa.string()), ("wnid", pa.string()), ("vector", vector)]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(about, sort_keys=True).encode()})
