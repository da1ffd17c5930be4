"""The published numbers of published.csv. No worker imports this, so that a new row makes no artefact old."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.error_rates import ErrorCounts
from model.evaluation.rows import rate_columns
from model.evaluation.schemas import ERROR_RATES, SCHEMA_VERSION, Row, append

PUBLISHED_PATH = Path(__file__).with_name("published.csv")


def published_rows() -> list[Row]:
    """Return the published numbers as rows of `error_rates`; rates follow from the counts if those are known."""
    with open(PUBLISHED_PATH, encoding="utf-8", newline="") as file:
        return [_published_row(values) for values in csv.DictReader(file)]


def beside_published(rows: Sequence[Row]) -> list[Row]:
    """Return the paper's own rows of the tables that `rows` belong to, and `rows` below them."""
    tables = {row["table"] for row in rows}
    return [*(row for row in published_rows() if row["table"] in tables and row["source"].startswith("K12")), *rows]


def error_rates(known: pa.Table | None, measured: Sequence[Row]) -> pa.Table:
    """Return the published rows, the measured rows of the table so far, and the new ones below them.

    Raises:
        InputError: the known rows were written by a newer version.
    """
    published = pa.Table.from_pylist(published_rows(), schema=ERROR_RATES)
    old = None if known is None else known.filter(pc.equal(known["source"], "measured"))
    return pa.concat_tables([published, append(old, measured, ERROR_RATES)])


def _published_row(values: dict[str, str]) -> Row:
    row: Row = dict.fromkeys(ERROR_RATES.names) | {"schema_version": SCHEMA_VERSION}
    row |= {name: _parsed(name, value) for name, value in values.items() if value}
    if row["top1_wrong"] is not None:
        row |= rate_columns(ErrorCounts(row["num_images"], row["top1_wrong"], row["top5_wrong"]))
    return row


def _parsed(name: str, value: str) -> str | int | float:
    kind = ERROR_RATES.field(name).type
    if pa.types.is_integer(kind):
        return int(value)
    return float(value) if pa.types.is_floating(kind) else value
