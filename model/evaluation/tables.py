"""Counts in, the paper's tables out: measured rows and published ones in one schema.

Called by `tasks.tabulate`. `error_rates` holds every row; `table1`, `table2` and `fall2009` are its selections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from model.evaluation.error_rates import wilson_interval
from model.evaluation.predictions import Predictions

SCHEMA_VERSION = 1
TABLES = ("table1", "table2", "fall2009")
PUBLISHED_PATH = Path(__file__).with_name("published.csv")

SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("source", pa.string()),
        ("views", pa.int8()),
        ("members", pa.list_(pa.string())),
        ("member_weights", pa.list_(pa.float64())),
        ("selected_on", pa.string()),
        ("num_images", pa.int64()),
        ("top1_wrong", pa.int64()),
        ("top5_wrong", pa.int64()),
        ("top1_error", pa.float64()),
        ("top5_error", pa.float64()),
        ("top1_low", pa.float64()),
        ("top1_high", pa.float64()),
        ("top5_low", pa.float64()),
        ("top5_high", pa.float64()),
        ("log_loss", pa.float64()),
        ("recipe", pa.string()),
        ("shards", pa.string()),
        ("config", pa.string()),
        ("code_version", pa.string()),
        ("run_id", pa.string()),
        ("created_at", pa.timestamp("us", tz="UTC")),
        ("schema_version", pa.int16()),
    ]
)


@dataclass(frozen=True)
class Origin:
    """What made a measured row."""

    recipe: str
    shards: str
    """Digest of the shard set scored."""
    config: str
    """Digest of the exact configuration."""
    code_version: str
    run_id: str | None
    created_at: datetime


@dataclass(frozen=True)
class Scored:
    """One network or ensemble on one split."""

    model: str
    dataset: str
    split: str
    views: int
    members: Sequence[str]
    """Digests of the weights averaged."""
    predictions: Predictions


def measured_row(table: str, scored: Scored, origin: Origin) -> dict[str, Any]:
    """Return one row: whole counts over the split, and everything made from them."""
    counts = scored.predictions.count_errors()
    top1 = wilson_interval(counts.top1_wrong, counts.num_images)
    top5 = wilson_interval(counts.top5_wrong, counts.num_images)
    return {
        "table": table,
        "model": scored.model,
        "dataset": scored.dataset,
        "split": scored.split,
        "source": "measured",
        "views": scored.views,
        "members": list(scored.members),
        "member_weights": [1 / len(scored.members)] * len(scored.members),
        "selected_on": None,
        "num_images": counts.num_images,
        "top1_wrong": counts.top1_wrong,
        "top5_wrong": counts.top5_wrong,
        "top1_error": counts.top1_error,
        "top5_error": counts.top5_error,
        "top1_low": top1.low,
        "top1_high": top1.high,
        "top5_low": top5.low,
        "top5_high": top5.high,
        "log_loss": scored.predictions.log_loss(),
        "recipe": origin.recipe,
        "shards": origin.shards,
        "config": origin.config,
        "code_version": origin.code_version,
        "run_id": origin.run_id,
        "created_at": origin.created_at,
        "schema_version": SCHEMA_VERSION,
    }


def published_rows() -> list[dict[str, Any]]:
    """Return the published numbers; where the paper's own files hold whole counts the rates are made from them."""
    frame = pd.read_csv(PUBLISHED_PATH)
    return [_published_row({str(name): value for name, value in row.items()}) for row in frame.to_dict("records")]


def error_rates(known: pa.Table | None, measured: Sequence[dict[str, Any]]) -> pa.Table:
    """Return the published rows, the measured rows `known` so far, and the new ones below them.

    A row measured from the same configuration as a known one is that row: it is not written twice.
    """
    old = [] if known is None else [row for row in known.to_pylist() if row["source"] == "measured"]
    seen = {_identity(row) for row in old}
    new = [row for row in measured if _identity(row) not in seen]
    return pa.Table.from_pylist([*published_rows(), *old, *new], schema=SCHEMA)


def select(rates: pa.Table, table: str) -> pa.Table:
    """Return one table's rows: the published ones in the paper's order, ours under them, of each model the latest.

    Raises:
        ValueError: no such table.
    """
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; the tables are {', '.join(TABLES)}")
    rows = [row for row in rates.to_pylist() if row["table"] == table]
    latest = {(row["source"], row["model"], row["dataset"], row["split"], row["views"]): row for row in rows}
    return pa.Table.from_pylist(list(latest.values()), schema=SCHEMA)


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["table"],
        row["model"],
        row["dataset"],
        row["split"],
        row["views"],
        row["shards"],
        row["config"],
        tuple(row["members"]),
    )


def _published_row(row: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {name: None if pd.isna(value) else value for name, value in row.items()}
    for name in ("views", "num_images", "top1_wrong", "top5_wrong"):
        values[name] = None if values[name] is None else int(values[name])
    for rank in ("top1", "top5"):
        wrong, num_images = values[f"{rank}_wrong"], values["num_images"]
        if wrong is not None:
            interval = wilson_interval(wrong, num_images)
            values[f"{rank}_error"] = wrong / num_images
            values[f"{rank}_low"], values[f"{rank}_high"] = interval
    return {**values, "schema_version": SCHEMA_VERSION}
