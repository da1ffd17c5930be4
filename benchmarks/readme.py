"""Measured rows in, the README's tables out: `python -m benchmarks.readme`.

`--demo WORKSPACE` and `--tiny WORKSPACE` first copy the rows of a workspace's latest evaluation to `docs/results/`; then the
README is rendered anew from what lies there. A test holds the README against it.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.record import ROOT
from model.evaluation.parquet import write_whole
from model.evaluation.rendering import as_text, gains_as_text
from model.evaluation.tables import published_rows

README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
PRESETS = ("demo", "tiny")
TABLES = ("error_rates", "table1", "table2", "fall2009", "comparisons", "per_class", "gaps")
MODELS = ("SIFT + FVs [7]", "1 CNN", "5 CNNs", "1 CNN*", "7 CNNs*")
HEADINGS = {"demo": "synthetic val (`demo`)", "tiny": "Tiny ImageNet, 20 classes (`tiny`)"}

Row = dict[str, Any]


def main() -> None:
    """Keep the rows that are given, and render."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for preset in PRESETS:
        parser.add_argument(f"--{preset}", type=Path, help=f"workspace in which the preset {preset} was reproduced")
    for preset, workspace in vars(parser.parse_args()).items():
        if workspace is not None:
            keep(workspace / "tables", preset)
    README.write_text(rendered(README.read_text("utf-8")), encoding="utf-8")


def keep(tables: Path, preset: str) -> None:
    """Copy the rows that the latest evaluation of a preset measured."""
    RESULTS.mkdir(exist_ok=True)
    for name in ("error_rates", "comparisons"):
        table = pq.read_table(tables / f"{name}.parquet", filters=[("recipe", "=", preset)])
        last = max(table["created_at"].to_pylist())
        rows = [row for row in table.to_pylist() if row["run_id"] == _run_of(table.to_pylist(), last)]
        write_whole(
            RESULTS / f"{preset}-{name.replace('_', '-')}.parquet", [table.from_pylist(rows, table.schema)], table.schema
        )


def _run_of(rows: list[Row], created_at: Any) -> str:
    return next(row["run_id"] for row in rows if row["created_at"] == created_at)


def rendered(text: str) -> str:
    """Return the README's text with its tables made anew."""
    for name, block in (("demo", demo_block()), ("results", results_block())):
        pattern = rf"(<!-- {name}: begin[^\n]*-->\n).*?(<!-- {name}: end -->)"
        text, found = re.subn(pattern, lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"README.md has {found} blocks {name!r}; expected one, between its comments")
    return text


def demo_block() -> str:
    """Return the last lines of `make demo`."""
    rows = read_rows("demo", "error-rates")
    published = [row for row in published_rows() if row["table"] == "table2" and row["source"].startswith("K12")]
    paths = "\n".join(f"artifacts/tables/{name}.parquet" for name in TABLES)
    gains = gains_as_text(read_rows("demo", "comparisons"))
    return f"```text\n{as_text([*published, *rows])}\n\n{gains}\n\n{paths}\n```"


def results_block() -> str:
    """Return Table 2, published and measured, as Markdown: a column for each preset of which rows are kept."""
    kept = {heading: read_rows(preset, "error-rates") for preset, heading in HEADINGS.items()}
    measured = {heading: measured_cells(rows) for heading, rows in kept.items() if rows}
    columns = [published_cells(), *measured.values()]
    lines = [f"| model | ILSVRC-2012, published | {' | '.join(measured)} |", "|---|---|" + "---|" * len(measured)]
    for model in (*MODELS[:2], "mean of five alone", *MODELS[2:]):
        name = model.replace("*", "\\*")
        lines.append(f"| {name} | {' | '.join(cells.get(model, '–') for cells in columns)} |")
    return "\n".join(lines)


def published_cells() -> dict[str, str]:
    """Return the paper's own numbers: on validation where it has them, else on test."""
    rows = [row for row in published_rows() if row["source"] == "K12 table 2"]
    by_split = {(row["model"], row["split"]): row for row in rows}
    cells = {}
    for model in MODELS:
        row = by_split.get((model, "val"))
        cells[model] = _cell([row]) if row else f"{_cell([by_split[model, 'test']])} (test)"
    return cells


def measured_cells(rows: list[Row]) -> dict[str, str]:
    """Return each model's errors, with the 95 % interval of top-1, and the mean of the networks trained from the start."""
    cells = {row["model"]: f"{_cell([row])} [{_percent(row['top1_low'])}, {_percent(row['top1_high'])}]" for row in rows}
    cells["mean of five alone"] = _cell([row for row in rows if row["model"].startswith("CNN, seed")])
    return cells


def read_rows(preset: str, name: str) -> list[Row]:
    """Return the rows kept of a preset; none where it was not run."""
    path = RESULTS / f"{preset}-{name}.parquet"
    return pq.read_table(path).to_pylist() if path.exists() else []


def _cell(rows: list[Row]) -> str:
    """`27.8 / 3.0`: the mean of the rows' errors at rank one and five."""
    errors = [[row[f"{top}_error"] for row in rows] for top in ("top1", "top5")]
    return " / ".join(_percent(sum(found) / len(found)) if found and None not in found else "–" for found in errors)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


if __name__ == "__main__":
    main()
