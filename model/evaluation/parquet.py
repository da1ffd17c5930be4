"""Parquet files that are whole or not there: written beside their name, flushed, renamed."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 1024
"""(ours) Of 1,000 classes' probabilities, 4 MB: few enough to hold of many files, enough to be read fast."""


def write_whole(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, **options: Any) -> None:
    """Write tables of one schema below each other, each into row groups of its own; a reader sees all of it or none.

    `options` are those of `pyarrow.parquet.ParquetWriter`.
    """
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        with pq.ParquetWriter(file, schema, **options) as writer:
            for table in tables:
                writer.write_table(table, ROWS_PER_GROUP)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
