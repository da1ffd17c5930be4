"""The two tables of retraining: `retrainings.parquet`, a row per run, and `champions.parquet`, a row per generation.

Both are append-only. A row is appended by writing the whole table beside the old one and renaming it, under the lock of the
workspace. Read by `flows.collect`, the report and `tasks.retrain`, which alone writes them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import InputError
from model.evaluation.parquet import write_whole
from model.retraining.schemas import CHAMPIONS, RETRAININGS, SCHEMA_VERSION

Row = dict[str, Any]
Cause = Literal["first", "promoted", "forced", "rollback"]

RETRAININGS_FILE = "retrainings.parquet"
CHAMPIONS_FILE = "champions.parquet"
SCHEMAS = {RETRAININGS_FILE: RETRAININGS, CHAMPIONS_FILE: CHAMPIONS}


@dataclass(frozen=True)
class Champion:
    """A generation: the network that was live from `since` until the next row of its name."""

    name: str
    generation: int
    """From 1; the highest of a name is the current one."""
    weights: str
    """SHA-256 of the weights file."""
    wnids: list[str]
    """The class of each output."""
    data_version: str
    """Digest of the set of shards that it was trained on."""
    eval_set: str
    """Digest of the set of shards that it was scored on when it became champion."""
    num_images: int
    """Of the evaluation set that were counted."""
    top1_wrong: int
    since: datetime
    cause: Cause
    reason: str
    key: str
    """What it was retrained from, see `tasks.retrain`."""
    vetoed: str | None
    """Of a rollback: the key of the generation that it replaces, which is not trained again."""
    siblings: list[str]
    """SHA-256 of all networks of its training, one per seed, itself among them."""
    retraining_id: str
    """The run that promoted it; of a rollback, the run that promoted the generation that is live again."""
    run_id: str | None

    @property
    def row(self) -> Row:
        """Its row of `champions.parquet`."""
        return asdict(self) | {"schema_version": SCHEMA_VERSION}


def read_champions(tables: Path, name: str | None = None) -> list[Champion]:
    """Return the generations of a name, or of all names, the oldest first; none if there is no table.

    Raises:
        InputError: a newer version wrote the table.
    """
    rows = read_table(tables, CHAMPIONS_FILE).drop_columns("schema_version").to_pylist()
    return [Champion(**row) for row in rows if name in (None, row["name"])]


def read_retrainings(tables: Path, name: str | None = None) -> list[Row]:
    """Return the runs of a name, or of all names, in the order in which they ended; none if there is no table.

    Raises:
        InputError: a newer version wrote the table.
    """
    return [row for row in read_table(tables, RETRAININGS_FILE).to_pylist() if name in (None, row["name"])]


def read_table(tables: Path, file: str) -> pa.Table:
    """Return one of the two tables with the columns of this version; a column that was added since is null.

    Raises:
        InputError: a newer version wrote it.
    """
    schema = SCHEMAS[file]
    if not (tables / file).exists():
        return schema.empty_table()
    with pq.ParquetFile(tables / file) as parquet:
        known = parquet.read()
    unknown = set(known.schema.names) - set(schema.names)
    if unknown or max(known["schema_version"].to_pylist(), default=0) > SCHEMA_VERSION:
        raise InputError(
            f"{tables / file} was written by a newer version (unknown columns: {', '.join(sorted(unknown)) or 'none'}); "
            f"use that one, or another workspace"
        )
    columns = [known[field.name] if field.name in known.schema.names else pa.nulls(len(known), field.type) for field in schema]
    return pa.table(columns, schema=schema)


def append(tables: Path, file: str, rows: Sequence[Row]) -> None:
    """Append rows to one of the two tables; a reader sees all of them or none."""
    schema = SCHEMAS[file]
    known = read_table(tables, file)
    tables.mkdir(parents=True, exist_ok=True)
    write_whole(tables / file, [pa.concat_tables([known, pa.Table.from_pylist(list(rows), schema=schema)])], schema)
