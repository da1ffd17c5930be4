"""Answers in, the tables' rows out: measured rows and published ones in one schema, pairs compared, classes counted.

Called by `tasks.tabulate`. `error_rates` holds every row ever measured; `table1`, `table2` and `fall2009` are its selections.
docs/tables.md says what each column holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.evaluation.answers import NUM_BEST, Answers
from model.evaluation.by_class import errors_by_class
from model.evaluation.comparisons import NUM_RESAMPLES, bootstrap_interval, count_discordant, mcnemar_p
from model.evaluation.error_rates import ErrorCounts, Interval, wilson_interval
from model.evaluation.hierarchical import total_costs

SCHEMA_VERSION = 2
"""Counts up when a column is added. None is ever taken away or changed."""
TABLES = ("table1", "table2", "fall2009")
PUBLISHED_PATH = Path(__file__).with_name("published.csv")
PUBLISHED_GAP = 0.001
"""[K12 §6] By how much the authors saw validation and test errors differ at most."""

Row = dict[str, Any]
CostMatrix = NDArray[np.uint8]

_ORIGIN = [
    ("recipe", pa.string()),
    ("shards", pa.string()),
    ("config", pa.string()),
    ("code_version", pa.string()),
    ("run_id", pa.string()),
    ("created_at", pa.timestamp("us", tz="UTC")),
    ("schema_version", pa.int16()),
]
_MIX = [("members", pa.list_(pa.string())), ("member_weights", pa.list_(pa.float64()))]

SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("source", pa.string()),
        ("views", pa.int8()),
        *_MIX,
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
        *_ORIGIN,
        ("top1_cost", pa.float64()),  # since version 2
        ("top5_cost", pa.float64()),
    ]
)

COMPARISONS = pa.schema(
    [
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("views", pa.int8()),
        ("rank", pa.int8()),
        ("first", pa.string()),
        ("second", pa.string()),
        ("first_members", pa.list_(pa.string())),
        ("second_members", pa.list_(pa.string())),
        ("num_images", pa.int64()),
        ("first_wrong", pa.int64()),
        ("second_wrong", pa.int64()),
        ("only_first_wrong", pa.int64()),
        ("only_second_wrong", pa.int64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("p_value", pa.float64()),
        ("num_resamples", pa.int32()),
        *_ORIGIN,
    ]
)

PER_CLASS = pa.schema(
    [
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("views", pa.int8()),
        *_MIX,
        ("wnid", pa.string()),
        ("num_images", pa.int64()),
        ("top1_wrong", pa.int64()),
        ("top5_wrong", pa.int64()),
        ("top1_error", pa.float64()),
        ("top5_error", pa.float64()),
        ("confused_wnids", pa.list_(pa.string())),
        ("confused_images", pa.list_(pa.int64())),
        *_ORIGIN,
    ]
)

GAPS = pa.schema(
    [
        ("table", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("source", pa.string()),
        ("views", pa.int8()),
        ("members", pa.list_(pa.string())),
        ("rank", pa.int8()),
        ("val_error", pa.float64()),
        ("test_error", pa.float64()),
        ("gap", pa.float64()),
        ("gap_low", pa.float64()),
        ("gap_high", pa.float64()),
        ("within_published", pa.bool_()),
        ("schema_version", pa.int16()),
    ]
)


@dataclass(frozen=True)
class Origin:
    """What made the rows of one evaluation, and of which images they are."""

    dataset: str
    split: str
    views: int
    recipe: str
    shards: str
    """Digest of the shard set scored."""
    config: str
    """Digest of the exact configuration."""
    code_version: str
    run_id: str | None
    created_at: datetime

    @property
    def columns(self) -> Row:
        """The columns that all rows of the evaluation share."""
        return {**vars(self), "schema_version": SCHEMA_VERSION}


@dataclass(frozen=True)
class Scored:
    """One network or ensemble, and what it said."""

    table: str
    model: str
    members: tuple[str, ...]
    """Digests of the weights averaged."""
    member_weights: tuple[float, ...]
    """One a member, summing to one."""
    selected_on: str | None
    """The split on which weights were chosen, if they were."""
    answers: Answers

    @property
    def mix(self) -> tuple[tuple[str, float], ...]:
        """What tells it from others, whatever it is called and however its members are listed."""
        return tuple(sorted(zip(self.members, self.member_weights, strict=True)))


def measured_row(scored: Scored, origin: Origin, cost_matrix: CostMatrix | None = None) -> Row:
    """Return one row: whole counts over the split, and everything made from them; without labels they are null.

    `cost_matrix` is that of the hierarchical cost, by class index.
    """
    counts = scored.answers.count_errors()
    row: Row = dict.fromkeys(SCHEMA.names) | {
        "table": scored.table,
        "model": scored.model,
        "source": "measured",
        "members": list(scored.members),
        "member_weights": list(scored.member_weights),
        "selected_on": scored.selected_on,
        "num_images": len(scored.answers.image_ids),
        "log_loss": scored.answers.log_loss(),
        **origin.columns,
    }
    return row if counts is None else {**row, **_rates(counts), **_costs(scored.answers, cost_matrix)}


def compared_rows(scored: Sequence[Scored], origin: Origin) -> list[Row]:
    """Return a row for each pair and rank; what is measured under two names is compared once. Without labels there are none."""
    different = _different(scored)
    return [_compared(first, second, rank, origin) for first, second in combinations(different, 2) for rank in (1, NUM_BEST)]


def per_class_rows(scored: Sequence[Scored], origin: Origin) -> list[Row]:
    """Return a row for each class of each network or ensemble; what is measured under two names is counted once."""
    return [row for one in _different(scored) for row in _per_class(one, origin)]


def published_rows() -> list[Row]:
    """Return the published numbers; where whole counts are known the rates are made from them."""
    frame = pd.read_csv(PUBLISHED_PATH)
    return [_published_row({str(name): value for name, value in row.items()}) for row in frame.to_dict("records")]


def error_rates(known: pa.Table | None, measured: Sequence[Row]) -> pa.Table:
    """Return the published rows, the measured rows `known` so far, and the new ones below them.

    Raises:
        ValueError: the known rows were written by a newer version.
    """
    published = pa.Table.from_pylist(published_rows(), schema=SCHEMA)
    old = None if known is None else known.filter(pc.equal(known["source"], "measured"))
    return pa.concat_tables([published, append(old, measured, SCHEMA)])


def append(known: pa.Table | None, rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Return the rows known so far and the new ones below them; a column that is younger than a row is null in it.

    Raises:
        ValueError: the known rows were written by a newer version.
    """
    new = pa.Table.from_pylist(list(rows), schema=schema)
    if known is None:
        return new
    newest = max((version for version in known["schema_version"].to_pylist() if version is not None), default=0)
    unknown = [name for name in known.schema.names if name not in schema.names]
    if newest > SCHEMA_VERSION or unknown:
        raise ValueError(
            f"the tables hold rows of schema version {newest} (columns not known here: {', '.join(unknown) or 'none'}), "
            f"this program writes version {SCHEMA_VERSION}; use a newer one, or another workspace"
        )
    return pa.concat_tables(
        [known.select([n for n in schema.names if n in known.schema.names]), new], promote_options="default"
    )


def latest(rates: pa.Table) -> pa.Table:
    """Return of each row measured more than once the last, and all published ones."""
    key = ["table", "source", "model", "dataset", "split", "views"]
    number = np.arange(len(rates))
    last = rates.select(key).append_column("row", pa.array(number)).group_by(key, use_threads=False).aggregate([("row", "max")])
    return rates.take(pa.array(np.sort(last["row_max"].to_numpy())))


def select(rates: pa.Table, table: str) -> pa.Table:
    """Return one table's rows: the published ones in the paper's order, ours under them, of each model the latest.

    Raises:
        ValueError: no such table.
    """
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; the tables are {', '.join(TABLES)}")
    return latest(rates.filter(pc.equal(rates["table"], table)))


def gaps(rates: pa.Table) -> pa.Table:
    """Return for whatever has both, published or measured, by how much test and validation error differ.

    The paper says no more than 0.1 points of its own networks; `within_published` says whether that holds here.
    """
    rows = [row for row in latest(rates).to_pylist() if row["split"] in ("val", "test")]
    found = {}
    for row in rows:
        key = tuple(str(row[name]) for name in ("table", "model", "dataset", "source", "views", "members", "member_weights"))
        found[(*key, row["split"])] = row
    pairs = [(row, found.get((*key[:-1], "test"))) for key, row in found.items() if key[-1] == "val"]
    gap_rows = [gap for val, test in pairs if test is not None for gap in _gaps(val, test)]
    return pa.Table.from_pylist(gap_rows, schema=GAPS)


def _different(scored: Sequence[Scored]) -> list[Scored]:
    """Those that have labels, each mix of members once, under its first name."""
    first = {one.mix: one for one in reversed(scored) if one.answers.labels is not None}
    return [one for one in scored if first.get(one.mix) is one]


def _rates(counts: ErrorCounts) -> Row:
    top1 = wilson_interval(counts.top1_wrong, counts.num_images)
    top5 = wilson_interval(counts.top5_wrong, counts.num_images)
    return {
        "top1_wrong": counts.top1_wrong,
        "top5_wrong": counts.top5_wrong,
        "top1_error": counts.top1_error,
        "top5_error": counts.top5_error,
        "top1_low": top1.low,
        "top1_high": top1.high,
        "top5_low": top5.low,
        "top5_high": top5.high,
    }


def _costs(answers: Answers, cost_matrix: CostMatrix | None) -> Row:
    if cost_matrix is None or answers.labels is None:
        return {}
    totals = total_costs(answers.best, answers.labels.class_indices, cost_matrix)
    return {"top1_cost": int(totals[0]) / len(answers.best), "top5_cost": int(totals[-1]) / len(answers.best)}


def _compared(first: Scored, second: Scored, rank: int, origin: Origin) -> Row:
    wrong = [_wrong(one, rank) for one in (first, second)]
    pair = count_discordant(*wrong)
    interval = bootstrap_interval(pair)
    return {
        "rank": rank,
        "first": first.model,
        "second": second.model,
        "first_members": list(first.members),
        "second_members": list(second.members),
        "num_images": pair.num_images,
        "first_wrong": int(wrong[0].sum()),
        "second_wrong": int(wrong[1].sum()),
        "only_first_wrong": pair.only_first_wrong,
        "only_second_wrong": pair.only_second_wrong,
        "difference": pair.difference,
        "difference_low": interval.low,
        "difference_high": interval.high,
        "p_value": mcnemar_p(pair),
        "num_resamples": NUM_RESAMPLES,
        **origin.columns,
    }


def _wrong(scored: Scored, rank: int) -> NDArray[np.bool_]:
    labels = scored.answers.labels
    if labels is None:
        raise ValueError(f"{scored.model} was scored on images without labels; nothing is right or wrong there")
    return labels.ranks > rank


def _per_class(scored: Scored, origin: Origin) -> Iterator[Row]:
    labels = scored.answers.labels
    for errors in errors_by_class(scored.answers, labels) if labels is not None else ():
        seen = errors.num_images or None  # no rate of no images
        yield {
            "model": scored.model,
            "members": list(scored.members),
            "member_weights": list(scored.member_weights),
            **errors._asdict(),
            "top1_error": errors.top1_wrong / seen if seen else None,
            "top5_error": errors.top5_wrong / seen if seen else None,
            **origin.columns,
        }


def _gaps(val: Row, test: Row) -> Iterator[Row]:
    for rank in (1, NUM_BEST):
        errors = val[f"top{rank}_error"], test[f"top{rank}_error"]
        if None in errors:
            continue
        interval = _gap_interval(val, test, f"top{rank}")
        yield {
            **{name: val[name] for name in ("table", "model", "dataset", "source", "views", "members")},
            "rank": rank,
            "val_error": errors[0],
            "test_error": errors[1],
            "gap": errors[1] - errors[0],
            "gap_low": None if interval is None else interval.low,
            "gap_high": None if interval is None else interval.high,
            "within_published": abs(errors[1] - errors[0]) <= PUBLISHED_GAP + 1e-9,
            "schema_version": SCHEMA_VERSION,
        }


def _gap_interval(val: Row, test: Row, top: str) -> Interval | None:
    """The 95 % interval of the difference of two proportions, from their Wilson intervals. [Newcombe 1998]"""
    if val[f"{top}_wrong"] is None or test[f"{top}_wrong"] is None:
        return None
    a, b = ((row[f"{top}_error"], row[f"{top}_low"], row[f"{top}_high"]) for row in (test, val))
    gap = a[0] - b[0]
    return Interval(gap - sqrt((a[0] - a[1]) ** 2 + (b[2] - b[0]) ** 2), gap + sqrt((a[2] - a[0]) ** 2 + (b[0] - b[1]) ** 2))


def _published_row(row: Row) -> Row:
    values: Row = {name: None if pd.isna(value) else value for name, value in row.items()}
    for name in ("views", "num_images", "top1_wrong", "top5_wrong"):
        values[name] = None if values[name] is None else int(values[name])
    if values["top1_wrong"] is not None:
        values |= _rates(ErrorCounts(values["num_images"], values["top1_wrong"], values["top5_wrong"]))
    return dict.fromkeys(SCHEMA.names) | values | {"schema_version": SCHEMA_VERSION}
