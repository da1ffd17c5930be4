"""Render the tables of the README from measured rows: `python -m benchmarks.readme`.

`--demo WORKSPACE`, `--tiny WORKSPACE` and `--tiny40 WORKSPACE` first copy the rows of the latest evaluation of a workspace to
`docs/results/`, and the demo's figures to `docs/figures/`. The README is rendered from the rows, and a test checks that it is
up to date. `tiny40` is `--preset tiny --num-classes 40 --num-networks 1 --num-pretrained 0`.
"""

import argparse
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from base.errors import InputError
from benchmarks.record import ROOT
from model.evaluation.kernels import SPECIALISATION
from model.evaluation.parquet import write_whole
from model.evaluation.published import beside_published, published_rows
from model.evaluation.rendering import as_text, gains_as_text
from model.evaluation.schemas import COMPARISONS, ERROR_RATES, Row, upgrade
from model.evaluation.tables import NAMES
from model.retrieval.rendering import as_markdown as retrieval_as_markdown
from model.retrieval.rendering import as_text as retrieval_as_text
from model.retrieval.rendering import specialisation_as_text
from model.retrieval.schemas import RETRIEVAL

README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
FIGURES = ROOT / "docs" / "figures"
FIGURE_SIZE = (1000, 1600)
"""Pixels at most."""
PRESETS = ("demo", "tiny", "tiny40")
SCHEMAS = {
    "error_rates": ERROR_RATES,
    "comparisons": COMPARISONS,
    "retrieval": RETRIEVAL,
    "specialisation": SPECIALISATION,
}
MODELS = ("SIFT + FVs [7]", "1 CNN", "5 CNNs", "1 CNN*", "7 CNNs*")
HEADINGS = {"demo": "synthetic val (`demo`)", "tiny": "Tiny ImageNet, 20 classes (`tiny`)"}


def main() -> None:
    """Copy the rows of the workspaces given, and render."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for preset in PRESETS:
        parser.add_argument(f"--{preset}", type=Path, help=f"workspace in which the preset {preset} was reproduced")
    for preset, workspace in vars(parser.parse_args()).items():
        if workspace is not None:
            keep(workspace / "tables", preset)
            if preset == "demo":
                keep_figures(workspace)
    README.write_text(rendered(README.read_text("utf-8")), encoding="utf-8")


def keep(tables: Path, preset: str) -> None:
    """Copy the measured rows of the latest evaluation of a preset."""
    RESULTS.mkdir(exist_ok=True)
    for name, schema in SCHEMAS.items():
        if not (tables / f"{name}.parquet").exists():
            continue
        table = upgrade(pq.read_table(tables / f"{name}.parquet"), schema)
        rows: list[Row] = [row for row in table.to_pylist() if row["preset"] == preset.removesuffix("40")]
        if not rows:
            continue  # one network is compared with nothing
        last = max(rows, key=lambda row: row["created_at"])["run_id"]
        kept = pa.Table.from_pylist([row for row in rows if row["run_id"] == last], schema=schema)
        write_whole(_kept_path(preset, name), [kept], schema)


def keep_figures(workspace: Path) -> None:
    """Copy the figures of the newest report; its images are drawn by this project."""
    FIGURES.mkdir(exist_ok=True)
    report = max((workspace / "report" / "demo").glob("*/index.html"), key=lambda path: path.stat().st_mtime).parent
    for figure in report.glob("figure*.png"):
        with Image.open(figure) as image:
            small = image.convert("RGB")
        small.thumbnail(FIGURE_SIZE)
        small.save(FIGURES / f"demo-{figure.stem}.jpg", quality=85, optimize=True)


def rendered(text: str) -> str:
    """Return the text of the README with its tables rendered again."""
    for name, block in (("demo", demo_block()), ("results", results_block()), ("retrieval", retrieval_block())):
        pattern = rf"(<!-- {name}: begin[^\n]*-->\n).*?(<!-- {name}: end -->)"
        text, found = re.subn(pattern, lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text, flags=re.DOTALL)
        if found != 1:
            raise InputError(f"README.md has {found} blocks {name!r}; expected one, between its comments")
    return text


def demo_block() -> str:
    """Return the last lines of `make demo`."""
    paths = "\n".join(f"artifacts/tables/{name}.parquet" for name in NAMES)
    gains = gains_as_text(read_rows("demo", "comparisons"))
    rates = as_text(beside_published(read_rows("demo", "error_rates")))
    retrieval = retrieval_as_text(read_rows("demo", "retrieval"))
    colour = specialisation_as_text(read_rows("demo", "specialisation"))
    return "\n\n".join((f"```text\n{rates}", gains, paths, retrieval, colour, "artifacts/report/demo.html\n```"))


def retrieval_block() -> str:
    """Return mAP and precision among six by space, method and bits, as Markdown."""
    columns = {
        "synthetic val (`demo`), five networks": read_rows("demo", "retrieval"),
        "Tiny ImageNet, 40 classes, one network": read_rows("tiny40", "retrieval"),
    }
    return retrieval_as_markdown({heading: rows for heading, rows in columns.items() if rows})


def results_block() -> str:
    """Return Table 2, published and measured, as Markdown, with a column for each preset whose rows are kept."""
    kept = {heading: read_rows(preset, "error_rates") for preset, heading in HEADINGS.items()}
    measured = {heading: measured_cells(rows) for heading, rows in kept.items() if rows}
    columns = [published_cells(), *measured.values()]
    lines = [f"| model | ILSVRC-2012, published | {' | '.join(measured)} |", "|---|---|" + "---|" * len(measured)]
    for model in (*MODELS[:2], "mean of five alone", *MODELS[2:]):
        name = model.replace("*", "\\*")
        lines.append(f"| {name} | {' | '.join(cells.get(model, '–') for cells in columns)} |")
    return "\n".join(lines)


def published_cells() -> dict[str, str]:
    """Return the numbers of the paper: validation errors if it has them, otherwise test errors."""
    rows = [row for row in published_rows() if row["source"] == "K12 table 2"]
    by_split = {(row["model"], row["split"]): row for row in rows}
    cells = {}
    for model in MODELS:
        row = by_split.get((model, "val"))
        cells[model] = _cell([row]) if row else f"{_cell([by_split[model, 'test']])} (test)"
    return cells


def measured_cells(rows: list[Row]) -> dict[str, str]:
    """Return the errors of each model with the 95 % interval of top-1, and the mean of the networks trained from scratch."""
    cells = {row["model"]: f"{_cell([row])} [{_percent(row['top1_low'])}, {_percent(row['top1_high'])}]" for row in rows}
    cells["mean of five alone"] = _cell([row for row in rows if row["model"].startswith("CNN, seed")])
    return cells


def read_rows(preset: str, name: str) -> list[Row]:
    """Return the kept rows of a preset, written by any version; an empty list if it was not run."""
    path = _kept_path(preset, name)
    return upgrade(pq.read_table(path), SCHEMAS[name]).to_pylist() if path.exists() else []


def _kept_path(preset: str, name: str) -> Path:
    return RESULTS / f"{preset}-{name.replace('_', '-')}.parquet"


def _cell(rows: list[Row]) -> str:
    """Return `27.8 / 3.0`: the mean errors of the rows at rank one and five."""
    errors = [[row[f"{top}_error"] for row in rows] for top in ("top1", "top5")]
    return " / ".join(_percent(sum(found) / len(found)) if found and None not in found else "–" for found in errors)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


if __name__ == "__main__":
    main()
