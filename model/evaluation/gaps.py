"""By how much test and validation error of the same network differ, measured and published. [K12 §6]"""

from collections.abc import Iterator

import pyarrow as pa

from model.evaluation.error_rates import NUM_BEST
from model.evaluation.intervals import Interval, newcombe_interval
from model.evaluation.schemas import GAPS, SCHEMA_VERSION, Row
from model.evaluation.selection import SETTING, latest

PUBLISHED_GAP = 0.001
"""[K12 §6] The largest difference that the authors saw between validation and test error."""

SAME_NETWORK = ("table", "model", "dataset", "source", "members", "member_weights", *SETTING)
"""Columns in which the row of the validation error and that of the test error agree."""


def gaps(rates: pa.Table) -> pa.Table:
    """Return a row for each network and rank that has a validation and a test error.

    The paper says that they differ by no more than 0.1 points; `within_published` says whether that holds here. Errors with
    other labels, or over some of the classes, are not compared.
    """
    rows = [row for row in latest(rates).to_pylist() if row["labels"] is None and row["classes"] is None]
    tests = {_key(row): row for row in rows if row["split"] == "test"}
    pairs = [(row, tests[_key(row)]) for row in rows if row["split"] == "val" and _key(row) in tests]
    return pa.Table.from_pylist([gap for val, test in pairs for gap in _gaps(val, test)], schema=GAPS)


def _key(row: Row) -> str:
    return repr([row[name] for name in SAME_NETWORK])


def _gaps(val: Row, test: Row) -> Iterator[Row]:
    for rank in (1, NUM_BEST):
        val_error, test_error = val[f"top{rank}_error"], test[f"top{rank}_error"]
        if val_error is None or test_error is None:
            continue
        gap, interval = test_error - val_error, _interval(val, test, f"top{rank}")
        yield {
            **{name: val[name] for name in SAME_NETWORK},
            "rank": rank,
            "val_error": val_error,
            "test_error": test_error,
            "gap": gap,
            "gap_low": None if interval is None else interval.low,
            "gap_high": None if interval is None else interval.high,
            "within_published": abs(gap) <= PUBLISHED_GAP + 1e-9,
            "schema_version": SCHEMA_VERSION,
        }


def _interval(val: Row, test: Row, top: str) -> Interval | None:
    """Return the interval of test − val; None if a count is unknown."""
    if val[f"{top}_wrong"] is None or test[f"{top}_wrong"] is None:
        return None
    (a, a_interval), (b, b_interval) = (
        (row[f"{top}_error"], Interval(row[f"{top}_low"], row[f"{top}_high"])) for row in (test, val)
    )
    return newcombe_interval(a, a_interval, b, b_interval)
