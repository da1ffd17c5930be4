"""A table as people read it: one line a model, the paper's numbers first, errors in per cent with their intervals."""

from collections.abc import Callable, Sequence
from typing import Any

Row = dict[str, Any]

COLUMNS = (
    "model",
    "split",
    "top-1 %",
    "top-1 95 %",
    "top-5 %",
    "top-5 95 %",
    "top-1 wrong",
    "top-5 wrong",
    "images",
    "source",
)
LEFT = ("model", "split", "source")
"""Columns of words; numbers stand at the right."""

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "–": "--",
        "×": r"$\times$",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{char: f"\\{char}" for char in "&%$#_{}"},
    }
)


def as_cells(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the rows with every value as text; what is not known is a dash."""
    return [dict(zip(COLUMNS, _cells(row), strict=True)) for row in rows]


def as_text(rows: Sequence[Row]) -> str:
    """Return the rows as aligned columns under a heading."""
    return "\n".join("  ".join(line).rstrip() for line in _aligned(rows, str))


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    heading, *lines = _aligned(rows, lambda cell: cell.replace("|", "\\|").replace("*", "\\*"))
    rule = [
        "-" * len(cell) if name in LEFT else "-" * (len(cell) - 1) + ":" for name, cell in zip(COLUMNS, heading, strict=True)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *lines))


def as_latex(rows: Sequence[Row]) -> str:
    """Return the rows as a LaTeX `tabular` with the rules of the package booktabs."""
    heading, *lines = [" & ".join(line).rstrip() + r" \\" for line in _aligned(rows, lambda cell: cell.translate(LATEX))]
    columns = "".join("l" if name in LEFT else "r" for name in COLUMNS)
    return "\n".join(
        (rf"\begin{{tabular}}{{{columns}}}", r"\toprule", heading, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}")
    )


def gains_as_text(comparisons: Sequence[Row]) -> str:
    """Return a line for each ensemble: its top-1 error against the first network's, on the same images."""
    gains = [row for row in comparisons if row["rank"] == 1 and row["first"] == comparisons[0]["first"]]
    return "\n".join(_gain(row) for row in gains if len(row["second_members"]) > 1)


def _gain(row: Row) -> str:
    change, low, high = (_points(-row[name]) for name in ("difference", "difference_high", "difference_low"))
    return (
        f"{row['second']} against {row['first']}, top-1: {change} points, 95 % {low} to {high}, p = {row['p_value']:.2g}; "
        f"alone wrong on {row['only_second_wrong']:,} images against {row['only_first_wrong']:,}"
    )


def _points(difference: float) -> str:
    rounded = round(100 * difference, 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "−")


def _aligned(rows: Sequence[Row], escape: Callable[[str], str]) -> list[list[str]]:
    """The heading and one line a row, every cell escaped and as wide as the widest of its column."""
    lines = [[escape(cell) for cell in line] for line in (list(COLUMNS), *(_cells(row) for row in rows))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        [
            cell.ljust(width) if name in LEFT else cell.rjust(width)
            for name, cell, width in zip(COLUMNS, line, widths, strict=True)
        ]
        for line in lines
    ]


def _cells(row: Row) -> list[str]:
    errors = [text for top in ("top1", "top5") for text in (_percent(row[f"{top}_error"]), _interval(row, top))]
    counts = [_count(row[name]) for name in ("top1_wrong", "top5_wrong", "num_images")]
    return [row["model"], f"{row['dataset']} {row['split']}", *errors, *counts, row["source"]]


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.1f}"


def _interval(row: Row, top: str) -> str:
    low, high = row[f"{top}_low"], row[f"{top}_high"]
    return "–" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
