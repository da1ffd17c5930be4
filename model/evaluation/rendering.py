"""Render rows of `error_rates` as text, Markdown, LaTeX and cells: one line per model, errors in per cent with intervals."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from model.evaluation.schemas import Row

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
LEFT = ("model", "recipe", "split", "source")
"""Columns of words; numbers are aligned right."""


def as_cells(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return every value as text, by column; an unknown value is a dash.

    If the measured rows have more than one recipe, there is a column `recipe`.
    """
    cells = [_cells(row) for row in rows]
    if len({row["recipe"] for row in rows if row["source"] == "measured"}) > 1:
        return [{"model": line["model"], "recipe": row["recipe"] or "–", **line} for line, row in zip(cells, rows, strict=True)]
    return cells


def as_text(rows: Sequence[Row]) -> str:
    """Return the rows as aligned columns below a heading."""
    headings, lines = _grid(rows)
    return _tabulate("plain", [headings, *lines], headings)


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    headings, lines = _grid(rows)
    escaped = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in line] for line in lines]
    return _tabulate("pipe", escaped, headings, headers=headings)


def as_latex(rows: Sequence[Row]) -> str:
    """Return the rows as a LaTeX `tabular` with the rules of the package booktabs."""
    headings, lines = _grid(rows)
    return _tabulate("latex_booktabs", lines, headings, headers=headings).replace("–", "--").replace("×", r"$\times$")


def gains_as_text(comparisons: Sequence[Row]) -> str:
    """Return a line for each ensemble: its top-1 error against that of the first network, on the same images."""
    gains = [row for row in comparisons if row["rank"] == 1 and row["first"] == comparisons[0]["first"]]
    return "\n".join(_gain(row) for row in gains if len(row["second_members"]) > 1)


def shift_cells(shifts: Sequence[Row]) -> list[dict[str, str]]:
    """Return both errors of each shift and their difference as text, by column."""
    return [
        {
            "model": row["model"],
            "images": images_of(row),
            "rank": f"top-{row['rank']}",
            "val %": _percent(row["val_error"]),
            "val 95 %": _interval(row, "val"),
            "error %": _percent(row["error"]),
            "95 %": f"{100 * row['low']:.1f}–{100 * row['high']:.1f}",
            "difference": _points(row["difference"]),
            "difference 95 %": f"{_points(row['difference_low'])} to {_points(row['difference_high'])}",
        }
        for row in shifts
    ]


def shifts_as_text(shifts: Sequence[Row]) -> str:
    """Return a line for each network or ensemble and other set: its top-1 error there against that on validation."""
    return "\n".join(_shift(row) for row in shifts if row["rank"] == 1)


def images_of(row: Row) -> str:
    """Return what a row was measured on: `ilsvrc2012 val`, `ilsvrc2012 val, labels real`, `… among imagenet-a`."""
    also = [f"{said} {row[name]}" for name, said in (("labels", "labels"), ("classes", "among")) if row[name] is not None]
    return ", ".join([f"{row['dataset']} {row['split']}", *also])


def _grid(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the headings, and the cells of each row."""
    cells = as_cells(rows)
    return list(cells[0]) if cells else list(COLUMNS), [list(line.values()) for line in cells]


def _tabulate(style: str, lines: list[list[str]], headings: list[str], **options: Any) -> str:
    align = ["left" if name in LEFT else "right" for name in headings]
    return tabulate(lines, tablefmt=style, colalign=align, disable_numparse=True, **options)


def _gain(row: Row) -> str:
    change, low, high = (_points(-row[name]) for name in ("difference", "difference_high", "difference_low"))
    return (
        f"{row['second']} against {row['first']}, top-1: {change} points, 95 % {low} to {high}, p = {row['p_value']:.2g}; "
        f"alone wrong on {row['only_second_wrong']:,} images against {row['only_first_wrong']:,}"
    )


def _shift(row: Row) -> str:
    change, low, high = (_points(row[name]) for name in ("difference", "difference_low", "difference_high"))
    val = images_of({**row, "dataset": row["val_dataset"], "split": row["val_split"], "labels": None})
    return f"{row['model']} on {images_of(row)} against {val}, top-1: {change} points, 95 % {low} to {high}"


def _points(difference: float) -> str:
    rounded = round(100 * difference, 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "−")


def _cells(row: Row) -> dict[str, str]:
    errors = [text for top in ("top1", "top5") for text in (_percent(row[f"{top}_error"]), _interval(row, top))]
    counts = [_count(row[name]) for name in ("top1_wrong", "top5_wrong", "num_images")]
    values = [row["model"], images_of(row), *errors, *counts, row["source"]]
    return dict(zip(COLUMNS, values, strict=True))


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.1f}"


def _interval(row: Row, top: str) -> str:
    low, high = row[f"{top}_low"], row[f"{top}_high"]
    return "–" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
