"""Sets to the images that occur more than once, by the SHA-256 of their source files.

Called by `tasks.workers.duplicates`. The lists are read twice: once for the first bits of all digests, once for the rows whose
bits occur again. So fourteen million images need little memory.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_shards.shard_format import SAMPLES_FILE

DUPLICATES = pa.schema([(name, pa.string()) for name in ("source_sha256", "set", "key", "wnid", "name", "shard")])
"""The columns of `duplicates.parquet`: one row for each image, equal images together."""


def find_duplicates(sets: Mapping[str, Path]) -> pa.Table:
    """Return every image whose bytes occur more than once in the sets; the column `set` holds the name of its set."""
    beginnings = np.concatenate([_beginnings(batch) for path in sets.values() for batch in _batches(path, ["source_sha256"])])
    values, counts = np.unique(beginnings, return_counts=True)
    suspects = values[counts > 1]
    found = [_rows(batch, name, suspects) for name, path in sets.items() for batch in _batches(path)]
    rows = pa.concat_tables([DUPLICATES.empty_table(), *found])
    digests = rows["source_sha256"].value_counts()
    repeated = digests.filter(pc.greater(digests.field("counts"), 1)).field("values")
    rows = rows.filter(pc.is_in(rows["source_sha256"], value_set=repeated))
    return rows.sort_by([("source_sha256", "ascending"), ("set", "ascending"), ("key", "ascending")])


def count_duplicates(duplicates: pa.Table) -> dict[str, int]:
    """Return the number of images, of groups of equal images, and of groups that span several sets or several classes."""
    groups = duplicates.group_by("source_sha256").aggregate([("set", "count_distinct"), ("wnid", "count_distinct")])
    return {
        "duplicate_images": len(duplicates),
        "groups": len(groups),
        "groups_in_several_sets": _several(groups["set_count_distinct"]),
        "groups_in_several_classes": _several(groups["wnid_count_distinct"]),
    }


def _batches(directory: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    names = columns or [name for name in DUPLICATES.names if name != "set"]
    return iter(pq.ParquetFile(directory / SAMPLES_FILE).iter_batches(columns=names))


def _beginnings(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """Return the first 64 bits of each digest."""
    digits = "".join(pc.utf8_slice_codeunits(batch["source_sha256"], 0, 16).to_pylist())
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)


def _rows(batch: pa.RecordBatch, name: str, suspects: NDArray[np.uint64]) -> pa.Table:
    rows = pa.table(batch.filter(pa.array(np.isin(_beginnings(batch), suspects))))
    return (
        rows.append_column("set", pa.repeat(pa.scalar(name, pa.string()), len(rows))).select(DUPLICATES.names).cast(DUPLICATES)
    )


def _several(counts: pa.ChunkedArray) -> int:
    return int(pc.sum(pc.greater(counts, 1)).as_py() or 0)
