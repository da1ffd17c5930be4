"""The rows of the tables that a report shows: the latest ones of its networks, and the published ones.

Called by `tasks.report`, which names a report by their digest, and by the worker that writes it.
"""

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from model.evaluation.selection import SAME_MEASUREMENT, latest
from model.retraining.history import RETRAININGS_FILE, read_champions, read_table

VOLATILE = ["run_id", "created_at"]
"""Columns that tell when a row was measured, not what."""


def report_tables(
    directory: Path, members: Collection[str], table: str, others: Collection[str] = ()
) -> dict[str, pd.DataFrame]:
    """Return `rates`, `shifts`, `comparisons`, `specialisation`, `retrieval` and `retrainings`.

    Each is empty if its file is missing.

    `members` are the SHA-256 of the weights files; `table` is the paper's table whose published rows are shown. `others` are
    networks that have error rates but are not in the rest of the report.
    """
    scored = {*members, *others}
    shifts = _shifts(directory / "shifts.parquet", scored)
    return {
        "rates": _rates(directory / "error_rates.parquet", scored, table, shifts),
        "shifts": shifts,
        "comparisons": _plain(_newest(directory / "comparisons.parquet", scored, ["first_members", "second_members"]), shifts),
        "specialisation": _newest(directory / "specialisation.parquet", members, ["members"]),
        "retrieval": _newest(directory / "retrieval.parquet", members, ["members"]),
        "retrainings": _retrainings(directory, members),
    }


def digest(tables: dict[str, pd.DataFrame]) -> str:
    """Return the SHA-256 of what the tables say, whenever it was measured."""
    frames = [
        frame.drop(columns=VOLATILE, errors="ignore").to_json(orient="split", date_format="iso") for frame in tables.values()
    ]
    return sha256("\n".join(frames).encode()).hexdigest()


def _retrainings(directory: Path, members: Collection[str]) -> pd.DataFrame:
    """The runs of the names of which one of these networks is or was the champion."""
    names = {champion.name for champion in read_champions(directory) if champion.weights in members}
    runs = read_table(directory, RETRAININGS_FILE).to_pandas()
    found: pd.DataFrame = runs[runs["name"].isin(names)].reset_index(drop=True)
    return found


def _rates(path: Path, members: Collection[str], table: str, shifts: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table, published and measured, without those of other sets and labels."""
    if not path.exists():
        return pd.DataFrame()
    rows = _plain(latest(pq.read_table(path)).to_pandas(), shifts)
    published = (rows["table"] == table) & rows["source"].str.startswith("K12")
    ours = rows["table"].isin([table, "members"]) & (rows["source"] == "measured") & _of(rows["members"], members)
    parts = [rows[published], rows[ours & (rows["table"] == table)], rows[ours & (rows["table"] == "members")]]
    found: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return found


def _plain(rows: pd.DataFrame, shifts: pd.DataFrame) -> pd.DataFrame:
    """The rows that are neither by other labels, nor among some of the classes, nor of another set: these are the shifts."""
    if rows.empty:
        return rows
    others = [] if shifts.empty else list(shifts["shards"][shifts["labels"].isna()])
    found: pd.DataFrame = rows[rows["labels"].isna() & rows["classes"].isna() & ~rows["shards"].isin(others)]
    return found


def _shifts(path: Path, members: Collection[str]) -> pd.DataFrame:
    """The newest row of each network, other set and rank."""
    if not path.exists():
        return pd.DataFrame()
    rows = pq.read_table(path).to_pandas()
    rows = rows[_of(rows["members"], members)]
    measurement = rows[[name for name in SAME_MEASUREMENT if name in rows] + ["rank"]].assign(members=rows["members"].map(str))
    found: pd.DataFrame = rows[~measurement.duplicated(keep="last")].reset_index(drop=True)
    return found


def _newest(path: Path, members: Collection[str], columns: list[str]) -> pd.DataFrame:
    """The rows of the newest measurement of these networks, and published rows."""
    if not path.exists():
        return pd.DataFrame()
    rows = pq.read_table(path).to_pandas()
    published = rows[rows["source"] != "measured"] if "source" in rows else rows[:0]
    for column in columns:
        rows = rows[_of(rows[column], members)]
    if "source" in rows:
        rows = rows[rows["source"] == "measured"]
    if len(rows):
        names = rows[columns].map(str).agg(" ".join, axis=1)
        rows = rows[rows["created_at"] == rows.groupby(names)["created_at"].transform("max")]
    found: pd.DataFrame = pd.concat([published, rows], ignore_index=True)
    return found


def _of(column: "pd.Series[Any]", members: Collection[str]) -> "pd.Series[bool]":
    """Which lists of members hold some of these and no others."""
    return column.map(lambda digests: digests is not None and len(digests) > 0 and set(digests) <= set(members)).astype(bool)
