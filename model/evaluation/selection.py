"""Choose rows of `error_rates`: the latest of each measurement, and the rows of one of the paper's tables."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TABLES = ("table1", "table2", "fall2009")

SETTING = ("views", "preset", "recipe", "seed", "config")
SAME_MEASUREMENT = ("table", "source", "model", "dataset", "split", "labels", "classes", *SETTING)
"""Rows that agree in these columns are the same measurement, made again."""


def latest(rates: pa.Table) -> pa.Table:
    """Return the last row of each measurement, and all published rows, in the order of `rates`."""
    keys = list(SAME_MEASUREMENT)
    numbered = rates.select(keys).append_column("row", pa.array(np.arange(len(rates))))
    last = numbered.group_by(keys, use_threads=False).aggregate([("row", "max")])
    return rates.take(pa.array(np.sort(last["row_max"].to_numpy())))


def select(rates: pa.Table, table: str) -> pa.Table:
    """Return the rows of one of `TABLES`: the published ones in the paper's order, below them the latest measured ones.

    Raises:
        ValueError: there is no such table.
    """
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; the tables are {', '.join(TABLES)}")
    return latest(rates.filter(pc.equal(rates["table"], table)))
