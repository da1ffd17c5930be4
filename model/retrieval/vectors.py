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


@dataclass(frozen=True)
class Part:
    """One file, whose vectors are read when they are needed."""

    path: Path
    sizes: tuple[int, ...]
    """Rows of each record batch."""
    num_values: int
    dtype: np.dtype[Any]
    keys: pa.Array
    wnids: pa.Array
    about: dict[str, Any]

    def __len__(self) -> int:
        return sum(self.sizes)

    def batches(self, first: int, last: int) -> Iterator[tuple[int, Values]]:
        """Yield the record batches that hold rows `first` to `last` (excluded), each with the number of its first row."""
        with pa.OSFile(str(self.path)) as file:  # what is read of a memory map would count as memory of the process
            reader, start = pa.ipc.open_file(file), 0
            for number, size in enumerate(self.sizes):
                if start < last and first < start + size:
                    yield start, _values(reader.get_batch(number))
                start += size

    @cached_property
    def mapped(self) -> list[Values]:
        """The vectors of each record batch in a memory map, for reading single rows."""
        reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        return [_values(reader.get_batch(number)) for number in range(len(self.sizes))]


@dataclass(frozen=True)
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
    def ends(self) -> NDArray[np.int64]:
        """(parts,) How many rows the parts up to each one have."""
        return np.cumsum([len(part) for part in self.parts])

    @property
    def block_rows(self) -> int:
        """The largest number of rows that a block should have."""
        return max(1, min(BLOCK_ROWS, BLOCK_BYTES // (self.num_values * self.dtype.itemsize)))

    def blocks(self, rows: range | None = None, size: int | None = None) -> Iterator[Block]:
        """Yield all rows, or those in `rows`, in blocks of `size`; one block is in memory at a time."""
        rows, size = range(len(self)) if rows is None else rows, size or self.block_rows
        start, filled = rows.start, 0
        values = np.empty((min(size, len(rows)), self.num_values), self.dtype)
        for piece in self._pieces(rows):
            while len(piece):
                taken = min(len(piece), len(values) - filled)
                values[filled : filled + taken] = piece[:taken]
                piece, filled = piece[taken:], filled + taken
                if filled == len(values):
                    yield Block(start, values)
                    start, filled = start + filled, 0
                    values = values if rows.stop - start >= size else values[: rows.stop - start]

    def take(self, rows: NDArray[np.int64]) -> Values:
        """Return the vectors of these rows (N, D), in this order, from a memory map."""
        taken = np.empty((len(rows), self.num_values), self.dtype)
        part_numbers = np.searchsorted(self.ends, rows, side="right")
        for place, (number, row) in enumerate(zip(part_numbers, rows, strict=True)):
            part = self.parts[number]
            batch, within = divmod(int(row - self.ends[number]) + len(part), part.sizes[0])
            taken[place] = part.mapped[batch][within]
        return taken

    def read(self) -> Values:
        """Return all vectors (N, D)."""
        return np.concatenate(list(self._pieces(range(len(self)))))

    def _pieces(self, rows: range) -> Iterator[Values]:
        begin = 0
        for part, end in zip(self.parts, self.ends.tolist(), strict=True):
            if begin < rows.stop and rows.start < end:
                first, last = max(0, rows.start - begin), min(end, rows.stop) - begin
                for start, values in part.batches(first, last):
                    yield values[max(0, first - start) : last - start]
            begin = end


def _open_part(path: Path) -> Part:
    """Read everything but the vectors.

    Raises:
        InputError: there is no such file, it is not a file of vectors, or it is cut short.
    """
    if not path.is_file():
        raise InputError(f"no vectors {path}; expected the file of a finished shard: make it first")
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            about, vector = json.loads(reader.schema.metadata[METADATA_KEY]), reader.schema.field("vector").type
            batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            keys, wnids = (_names(batches, column) for column in ("key", "wnid"))
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        reason = type(error).__name__
        raise InputError(f"{path} is not a whole file of vectors ({reason}); delete it to make it again") from error
    sizes = tuple(len(batch) for batch in batches)
    return Part(path, sizes, vector.list_size, np.dtype(vector.value_type.to_pandas_dtype()), keys, wnids, about)


def _names(batches: Sequence[pa.RecordBatch], column: str) -> pa.Array:
    """Copy a column of strings, so that the file need not stay open."""
    return pa.array([name for batch in batches for name in batch[column].to_pylist()], pa.string())


def _values(batch: pa.RecordBatch) -> Values:
    column = batch["vector"]
    values: Values = column.flatten().to_numpy().reshape(len(batch), column.type.list_size)
    return values


def _schema(values: Values, about: dict[str, Any]) -> pa.Schema:
    vector = pa.list_(TYPES[values.dtype], values.shape[1])
    fields = [("key", pa.string()), ("wnid", pa.string()), ("vector", vector)]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(about, sort_keys=True).encode()})
