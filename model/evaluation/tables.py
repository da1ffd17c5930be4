"""Add the rows of one evaluation to the tables of a workspace. Called by `tasks.tabulate`.

Reads and writes `error_rates`, `comparisons`, `per_class` and `shifts`; writes `gaps` and the selections `table1`, `table2`,
`fall2009`.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from base.files import write_text
from model.evaluation.gaps import gaps
from model.evaluation.hierarchical import CostMatrix
from model.evaluation.parquet import write_whole
from model.evaluation.published import error_rates
from model.evaluation.rendering import as_latex, as_markdown
from model.evaluation.rows import Evaluation, Measured, compared_rows, measured_row, per_class_rows
from model.evaluation.schemas import COMPARISONS, PER_CLASS, SHIFTS, Row, append
from model.evaluation.selection import TABLES, select

NAMES = ("error_rates", *TABLES, "comparisons", "per_class", "gaps")
"""The Parquet files that every evaluation writes."""


def write_tables(
    measured: Sequence[Measured], evaluation: Evaluation, directory: Path, cost_matrix: CostMatrix | None = None
) -> list[Row]:
    """Append the rows of an evaluation to the tables in `directory` and return the new rows of `error_rates`.

    `cost_matrix`, by class index, adds the hierarchical cost.

    Raises:
        InputError: a newer version wrote the tables.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows = [measured_row(one, evaluation, cost_matrix) for one in measured]
    rates = error_rates(_known(directory, "error_rates"), rows)
    compared = append(_known(directory, "comparisons"), compared_rows(measured, evaluation), COMPARISONS)
    per_class = append(_known(directory, "per_class"), per_class_rows(measured, evaluation), PER_CLASS)
    selections = {name: select(rates, name) for name in TABLES}
    tables = {"error_rates": rates, **selections, "comparisons": compared, "per_class": per_class, "gaps": gaps(rates)}
    for name in NAMES:
        write_whole(directory / f"{name}.parquet", [tables[name]], tables[name].schema)
    for name, table in selections.items():
        write_text(directory / f"{name}.md", as_markdown(table.to_pylist()) + "\n")
        write_text(directory / f"{name}.tex", as_latex(table.to_pylist()) + "\n")
    return rows


def write_shifts(rows: Sequence[Row], directory: Path) -> Path:
    """Append rows to `shifts.parquet` in `directory`, which exists, and return its path.

    Raises:
        InputError: a newer version wrote the table.
    """
    table, path = append(_known(directory, "shifts"), rows, SHIFTS), directory / "shifts.parquet"
    write_whole(path, [table], table.schema)
    return path


def _known(directory: Path, name: str) -> pa.Table | None:
    """Return the rows that earlier evaluations wrote; None if there are none."""
    path = directory / f"{name}.parquet"
    return pq.read_table(path) if path.exists() else None
