"""A table as people read it: one line a model, the paper's numbers first, errors in per cent."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

COLUMNS = ("model", "split", "top-1 %", "top-5 %", "top-1 wrong", "top-5 wrong", "images", "source")


def as_cells(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the rows with every value as text; what is not known is a dash."""
    return [dict(zip(COLUMNS, _cells(row), strict=True)) for row in rows]


def as_text(rows: Sequence[Row]) -> str:
    """Return the rows as aligned columns under a heading."""
    lines = [list(COLUMNS), *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    left = {"model", "split", "source"}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in left else cell.rjust(width)
            for name, cell, width in zip(COLUMNS, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> list[str]:
    errors = [_percent(row["top1_error"]), _percent(row["top5_error"])]
    counts = [_count(row[name]) for name in ("top1_wrong", "top5_wrong", "num_images")]
    return [row["model"], f"{row['dataset']} {row['split']}", *errors, *counts, row["source"]]


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.1f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
