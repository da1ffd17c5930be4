"""The supplement: a folder with `index.html` that opens from `file://` and from any web server, in English and Arabic.

Reads finished tables and pictures; writes `kernels/*.png`, `panels/*.jpg`, `strips/*.jpg`, and `index.html` last.
The page loads nothing from anywhere else: styles and script are inside it, and its content security policy allows no more.
"""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from base.files import atomic_write, write_text
from base.progress import Progress, Silent
from model.reporting.catalogue import LANGUAGES, Text, catalogue, text
from model.reporting.claims import Tables, claims
from model.reporting.gallery import gallery_json, strip_of
from model.reporting.kernels import kernel_sheet, png_of
from model.reporting.panels import Panel
from model.reporting.photographs import Picture, first_synonym, square
from model.reporting.provenance import Provenance
from model.reporting.sections import (
    gain_table,
    learning_charts,
    rate_tables,
    retraining_charts,
    retraining_table,
    retrieval_charts,
    retrieval_table,
    shift_table,
    specialisation_table,
)

HERE = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html", "page.css", "page.js"

PANEL_SIDE = 256
"""(ours) Pixels of a panel's image."""

SECTIONS = ("claims", "rates", "curves", "retraining", "kernels", "panels", "retrieval", "queries", "provenance")
"""In the order of the page. One without content is left out."""


@dataclass(frozen=True)
class Report:
    """Finished numbers and pictures. What is empty has no section on the page."""

    name: str
    """Of the preset or of the weights."""
    names: Mapping[str, str]
    """The words of each WNID."""
    rates: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Rows of `error_rates`, published and measured, those of one table together."""
    comparisons: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Rows of `comparisons`; the first row's first model is what ensembles are compared with."""
    shifts: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Rows of `shifts`."""
    retrainings: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Rows of `retrainings` of the champions among the networks."""
    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """`metrics.parquet` of each run."""
    kernels: Mapping[str, Sequence[NDArray[np.floating]]] = field(default_factory=dict)
    """The first layer of each network: tower a and tower b, (K, 3, 11, 11) each."""
    specialisation: pd.DataFrame = field(default_factory=pd.DataFrame)
    panels: Sequence[Panel] = ()
    retrieval: pd.DataFrame = field(default_factory=pd.DataFrame)
    neighbours: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Rows of `neighbours` of one network, of the queries and the methods to show, in their order."""
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)
    """`image_id`, `rank`, `top5_wnid` and `top5_prob` of at least the queries."""
    query_picture: Picture | None = None
    database_picture: Picture | None = None


def write_page(report: Report, directory: Path, progress: Progress | None = None) -> None:
    """Write the page into a folder that exists; the same report gives the same bytes.

    Raises:
        InputError: a picture cannot be decoded, or a query has no prediction.
    """
    gallery = None if report.neighbours.empty else gallery_json(report.neighbours, report.predictions, report.names)
    for folder in ("kernels", "panels", "strips"):
        (directory / folder).mkdir(exist_ok=True)
    for number, towers in enumerate(report.kernels.values()):
        _write(directory / f"kernels/{number}.png", png_of(kernel_sheet(towers)))
    for number, panel in enumerate(report.panels):
        _write(directory / f"panels/{number}.jpg", _panel_jpeg(panel))
    if gallery is not None:
        _write_strips(report, gallery, directory / "strips", progress or Silent())
    write_text(directory / "index.html", _html(report, gallery))


def in_script(value: Any) -> Markup:
    """Return JSON for a `<script>` element. No `<` is left in it, so no text in it can end the element."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def attributes(words: Text, name: str = "") -> Markup:
    """Return the attributes from which the page takes the text in its language, or the attribute `name` of an element."""
    prefix = f"data-{name}-" if name else "data-"
    pairs = [Markup('{}{}="{}"').format(prefix, language, words[language]) for language in LANGUAGES]
    if name:
        pairs.append(Markup('{}="{}"').format({"label": "aria-label"}.get(name, name), words[LANGUAGES[0]]))
    return Markup(" ").join(pairs)


def _write_strips(report: Report, gallery: Mapping[str, Any], directory: Path, progress: Progress) -> None:
    if report.query_picture is None or report.database_picture is None:
        raise ValueError("a report with neighbours needs both pictures")
    for number, row in enumerate(gallery["rows"]):
        _write(directory / f"{number}.jpg", strip_of(row, gallery["columns"], report.query_picture, report.database_picture))
        progress.report(number + 1, len(gallery["rows"]), "queries")


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _panel_jpeg(panel: Panel) -> bytes:
    data = io.BytesIO()
    square(panel.jpeg, PANEL_SIDE).save(data, "JPEG", quality=85, optimize=True)
    return data.getvalue()


def _html(report: Report, gallery: Mapping[str, Any] | None) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (HERE / SCRIPT).read_text(encoding="utf-8")
    values = {
        "text": text,
        "attributes": attributes,
        "style": Markup((HERE / STYLE).read_text(encoding="utf-8")),  # ours
        "script": Markup(script),  # ours
        "script_digest": base64.b64encode(sha256(script.encode()).digest()).decode(),
        "data": in_script({**(gallery or {"rows": []}), "texts": dict(_script_texts())}),
    }
    return environment.get_template(TEMPLATE).render(**values, **_sections(report, gallery))


def _script_texts() -> Iterator[tuple[str, Text]]:
    """The texts that the script fills in."""
    for key, words in catalogue().items():
        group, _, name = key.partition(".")
        if group == "queries":
            yield name, words


def _sections(report: Report, gallery: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the template shows. Provenance is numbered in the order of the page, so it comes last."""
    provenance = Provenance()
    tables = Tables(report.rates, report.specialisation, report.retrieval)
    content: dict[str, Any] = {
        "claims": [] if all(frame.empty for frame in vars(tables).values()) else claims(tables),
        "rates": [] if report.rates.empty else list(rate_tables(report.rates, provenance)),
        "gains": None if report.comparisons.empty else gain_table(report.comparisons, provenance),
        "shifts": None if report.shifts.empty else shift_table(report.shifts, provenance),
        "curves": learning_charts(report.curves) if report.curves else [],
        "retraining": None if report.retrainings.empty else retraining_table(report.retrainings, provenance),
        "retraining_charts": [] if report.retrainings.empty else retraining_charts(report.retrainings),
        "kernels": [
            (name, f"kernels/{number}.png", towers[0].shape[0], kernel_sheet(towers).shape)
            for number, (name, towers) in enumerate(report.kernels.items())
        ],
        "specialisation": None if report.specialisation.empty else specialisation_table(report.specialisation, provenance),
        "panels": [_panel(panel, f"panels/{number}.jpg", report.names) for number, panel in enumerate(report.panels)],
        "retrieval": None if report.retrieval.empty else retrieval_table(report.retrieval, provenance),
        "retrieval_charts": [] if report.retrieval.empty else retrieval_charts(report.retrieval),
        "queries": (gallery or {"rows": []})["rows"],
    }
    content["provenance"] = provenance.entries
    return {"name": report.name, **content, "shown": [name for name in SECTIONS if content[name]]}


def _panel(panel: Panel, path: str, names: Mapping[str, str]) -> dict[str, Any]:
    best = [(first_synonym(names.get(wnid, wnid)), prob, wnid == panel.wnid) for wnid, prob in panel.best]
    return {"path": path, "name": first_synonym(names.get(panel.wnid, panel.wnid)), "best": best}
