"""The format of a shard set: names of files, lines of an index, columns of the lists.

Written by `data_shards.writing` and `data_shards.listing`, read by everything that opens a set.
"""

from collections.abc import Sequence
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Any, NamedTuple

import pyarrow as pa

INDEX_VERSION = "v1.2"
"""[DALI wds2idx] The version whose lines name the file of each component."""

SAMPLES_FILE = "samples.parquet"
CLASSES_FILE = "classes.parquet"

SAMPLE_LIST = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("wnid", pa.string()),
        pa.field("class_index", pa.int32()),
        pa.field("name", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("mended", pa.string()),
        pa.field("orientation", pa.int8()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_offset", pa.int64()),
        pa.field("source_sha256", pa.string(), nullable=False),
    ]
)
"""The columns of `samples.parquet`; a row is a `WrittenSample`."""

CLASS_LIST = pa.schema([("class_index", pa.int64()), ("wnid", pa.string()), ("words", pa.string()), ("ilsvrc_id", pa.int32())])
"""The columns of `classes.parquet`; only a competition's classes have an ILSVRC ID."""

BAD_IMAGE_LIST = pa.schema(
    [
        ("name", pa.string()),
        ("wnid", pa.string()),
        ("source", pa.string()),
        ("source_offset", pa.int64()),
        ("reason", pa.string()),
    ]
)
"""The columns of `bad_images.parquet`; a row is a `BadImage`."""


class WrittenSample(NamedTuple):
    """One row of `samples.parquet`."""

    key: str
    wnid: str | None
    class_index: int | None
    name: str
    shard: str
    offset: int
    """Of the JPEG's first byte in the tar."""
    size: int
    """Of the JPEG in bytes."""
    height: int
    """Of the stored image in pixels."""
    width: int
    sha256: str
    """Of the JPEG."""
    mended: str | None
    """What the source was if it was converted; None for an RGB JPEG."""
    orientation: int | None
    """The EXIF orientation of the source, 2 to 8, which was ignored; None for upright."""
    source: str
    """Name of the archive or file that it was read from."""
    source_offset: int | None
    source_sha256: str
    """Of the source file as it was read."""


class BadImage(NamedTuple):
    """A source that was left out, and why."""

    name: str
    wnid: str | None
    source: str
    source_offset: int | None
    reason: str

    def __str__(self) -> str:
        place = self.source if self.source_offset is None else f"{self.source} at byte {self.source_offset:,}"
        return f"{self.name}, class {self.wnid or 'unknown'} ({place}): {self.reason}"


def index_name(shard: str) -> str:
    """Return `train-00000.idx` for `train-00000.tar`."""
    return shard.removesuffix(".tar") + ".idx"


def part_path(shard: str, work: Path) -> Path:
    """Return the path of a shard's part of `samples.parquet`; the file exists only if the shard is complete."""
    return work / "parts" / f"{shard}.parquet"


def index_line(sample: WrittenSample) -> str:
    """Return one line of DALI's index: kind, offset, size and name of each component."""
    line = f"jpg {sample.offset} {sample.size} {sample.key}.jpg"
    if sample.class_index is None:
        return line
    label_at = filled_up(sample.offset + sample.size) + BLOCKSIZE
    return f"{line} cls {label_at} {len(str(sample.class_index))} {sample.key}.cls"


def index_file(lines: Sequence[str]) -> bytes:
    """Return the content of an index file of these lines."""
    return "\n".join([f"{INDEX_VERSION} {len(lines)}", *lines, ""]).encode("ascii")


def filled_up(size: int, unit: int = BLOCKSIZE) -> int:
    """Return `size` rounded up to a multiple of `unit`."""
    return -(-size // unit) * unit


def as_table(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Return rows as columns."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
