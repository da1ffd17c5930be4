"""Rows of the tables as the page shows them: text in each column, grouped and averaged. Called by `model.reporting.page`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from model.evaluation.intervals import wilson_interval
from model.evaluation.rendering import images_of
from model.reporting.catalogue import Text, catalogue, plain, text
from model.reporting.charts import Chart, Series
from model.reporting.claims import number, p_value
from model.reporting.provenance import Provenance

Row = Mapping[Any, Any]

RECALLS = (6, 100, 1000)
"""Lengths of the lists in which the true six neighbours are looked for."""

SCORES = ("map", "p6", "p100", "recall6_at_100", "radius2_precision", "dead_bits", "reconstruction_val")
"""The columns of `retrieval` that the page shows."""

UNKNOWN = "–"

MAX_RUNS, MAX_LABELS = 40, 8
"""Retrainings in the chart, and dates below it."""


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and a smaller one beside it."""

    text: str | Text
    aside: str | None = None
    """None leaves no space for it."""

    @property
    def words(self) -> Text | None:
        """The text in each language; None for a number, which is the same in all."""
        return self.text if isinstance(self.text, Mapping) else None


@dataclass(frozen=True)
class Line:
    """A row of a table on the page: its name, its cells, and where they come from."""

    name: str | Text
    cells: list[Cell]
    source: str = ""
    """Where a published row stands."""
    origins: tuple[int, ...] = ()
    """Numbers of the entries of provenance."""

    @property
    def words(self) -> Text | None:
        """The name in each language; None if it is the same in all."""
        return self.name if isinstance(self.name, Mapping) else None


@dataclass(frozen=True)
class TableView:
    """A table with a caption and headings; the first heading is that of the names."""

    caption: Text
    headings: list[Text]
    lines: list[Line]


def rate_tables(rates: pd.DataFrame, provenance: Provenance) -> Iterator[TableView]:
    """Yield a table for each of the paper's, in the order of the rows; a name that the catalogue lacks is its caption."""
    headings = [text(f"rates.{name}") for name in ("model", "split", "views", "top1", "top5", "count", "source")]
    for name, rows in groupby(rates.to_dict("records"), key=lambda row: row["table"]):
        caption = text(f"rates.{name}") if f"rates.{name}" in catalogue() else plain(name)
        yield TableView(caption, headings, [_rate_line(row, provenance) for row in rows])


def gain_table(comparisons: pd.DataFrame, provenance: Provenance) -> TableView:
    """Return each ensemble against the first network."""
    headings = [text(f"gains.{name}") for name in ("pair", "rank", "change", "p")] + [text("rates.source")]
    rows = comparisons.to_dict("records")
    gains = [row for row in rows if row["first"] == rows[0]["first"] and len(row["second_members"]) > 1]
    return TableView(text("gains.caption"), headings, [_gain_line(row, provenance) for row in gains])


def shift_table(shifts: pd.DataFrame, provenance: Provenance) -> TableView:
    """Return each network on validation and on another test set, or by other labels."""
    headings = [text("rates.model"), *(text(f"shifts.{name}") for name in ("images", "rank", "val", "other", "change"))]
    lines = [_shift_line(row, provenance) for row in shifts.to_dict("records")]
    return TableView(text("shifts.caption"), [*headings, text("rates.source")], lines)


def specialisation_table(rows: pd.DataFrame, provenance: Provenance) -> TableView:
    """Return the paper's figure and each network: how coloured the kernels of each tower are."""
    names = ("per_tower", "coloured", "mean", "auc")
    headings = [text("rates.model"), *(text(f"kernels.{name}") for name in names), text("gains.p"), text("rates.source")]
    return TableView(text("kernels.caption"), headings, [_colour_line(row, provenance) for row in rows.to_dict("records")])


def retrieval_table(rows: pd.DataFrame, provenance: Provenance) -> TableView:
    """Return a line for each space, method and number of bits, on average over networks and seeds."""
    names = ("method", "bits", "n", "map", "p6", "p100", "recall", "radius", "dead", "reconstruction")
    headings = [text(f"retrieval.{name}") for name in names] + [text("rates.source")]
    lines = [_score_line(kind, group, provenance) for kind, group in _by_method(rows)]
    return TableView(text("retrieval.caption"), headings, lines)


def retrieval_charts(rows: pd.DataFrame) -> list[Chart]:
    """Return mean average precision over bits, and the recall of the true neighbours at the fewest bits."""
    coded, exact = rows.dropna(subset="bits"), rows[rows["bits"].isna() & (rows["method"] == "l2")]
    if coded.empty:
        return []
    bits = sorted(coded["bits"].unique())
    style = {kind: number for number, (kind, _) in enumerate(_by(pd.concat([exact, coded]), ["space", "method"]))}
    precision = [
        *(Series(_method(*kind), _level(group, bits), style[kind]) for kind, group in _by(exact, ["space", "method"])),
        *(Series(_method(*kind), _means(group, "bits", "map"), style[kind]) for kind, group in _by(coded, ["space", "method"])),
    ]
    recall = [
        Series(_method(*kind), [(at, float(group[f"recall6_at_{at}"].mean())) for at in RECALLS], style[kind])
        for kind, group in _by(coded[coded["bits"] == bits[0]], ["space", "method"])
    ]
    return [
        Chart(text("retrieval.map"), text("retrieval.bits_axis"), precision, x_ticks=bits),
        Chart(text("retrieval.recall_axis", bits=int(bits[0])), text("retrieval.within"), recall, x_ticks=RECALLS),
    ]


def learning_charts(runs: Mapping[str, pd.DataFrame]) -> list[Chart]:
    """Return the validation error and the training loss over the epochs, from the `metrics.parquet` of each run."""
    errors, losses = [], []
    for name, metrics in runs.items():
        val = metrics.dropna(subset="val_top1_wrong")
        wrong = zip(val["epoch"], val["val_top1_wrong"] / val["val_num_images"], strict=True)
        errors.append(Series(plain(name), [(float(x), float(y)) for x, y in wrong]))
        losses.append(Series(plain(name), _means(metrics, "epoch", "loss")))
    return [
        Chart(text("curves.error"), text("curves.epoch"), errors),
        Chart(text("curves.loss"), text("curves.epoch"), losses),
    ]


def retraining_table(runs: pd.DataFrame, provenance: Provenance) -> TableView:
    """Return a line for each run, the last first: what it found, and what it decided and why."""
    names = ("when", "decision", "images", "champion", "challenger", "difference", "reason")
    headings = [text(f"retraining.{name}") for name in names] + [text("rates.source")]
    lines = [_run_line(row, provenance) for row in reversed(runs.to_dict("records"))]
    return TableView(text("retraining.caption"), headings, lines)


def retraining_charts(runs: pd.DataFrame) -> list[Chart]:
    """Return the errors of champion and challenger, with their 95 % intervals, of each run that has compared them."""
    compared = runs[runs["challenger_wrong"].notna()].tail(MAX_RUNS).reset_index(drop=True)
    if compared.empty:
        return []
    series = [_errors(compared[compared["champion_wrong"].notna()], "champion", 0, joined=True)]
    series += [
        _errors(some, "challenger", 1 + place, decision)
        for place, decision in enumerate(("promoted", "undecided", "kept"))
        if len(some := compared[compared["decision"] == decision])
    ]
    every = max(1, -(-len(compared) // MAX_LABELS))
    labels = [f"{at:%m-%d}" if place % every == 0 else "" for place, at in enumerate(compared["finished_at"])]
    shown = [one for one in series if one.points]
    return [
        Chart(
            text("retraining.error"), text("retraining.run"), shown, x_ticks=list(map(float, compared.index)), x_labels=labels
        )
    ]


def _errors(runs: pd.DataFrame, who: str, style: int, decision: str | None = None, joined: bool = False) -> Series:
    """The errors of the champion, or of the challengers with one decision, with Wilson's intervals."""
    counts = [(int(wrong), int(num)) for wrong, num in zip(runs[f"{who}_wrong"], runs["num_eval"], strict=True)]
    name = text(f"retraining.{who}") if decision is None else text(f"retraining.challenger_{decision}")
    points = [(float(at), wrong / num) for at, (wrong, num) in zip(runs.index, counts, strict=True)]
    return Series(name, points, style, [wilson_interval(*one) for one in counts], joined)


def _run_line(row: Row, provenance: Provenance) -> Line:
    counts = [row[f"images_{what}"] for what in ("added", "removed", "relabelled")]
    changes = UNKNOWN if _unknown(counts[0]) else " ".join(f"{s}{int(n):,}" for s, n in zip("+−~", counts, strict=True))
    difference, aside = UNKNOWN, ""
    if not _unknown(row["difference"]):
        difference, low, high = (_points(-row[name]) for name in ("difference", "difference_high", "difference_low"))
        aside = f"{low} … {high}"
    cells = [
        Cell(text(f"retraining.{row['decision']}")),
        Cell(changes),
        *(_share_wrong(row, f"{who}_wrong") for who in ("champion", "challenger")),
        Cell(difference, aside),
        Cell(str(row["reason"])),
    ]
    members = [row[who] for who in ("champion", "challenger") if not _unknown(row[who])]
    origin = provenance.number({**row, "members": members, "shards": row["data_version"], "created_at": row["finished_at"]})
    return Line(f"{row['finished_at']:%Y-%m-%d %H:%M}", cells, origins=() if origin is None else (origin,))


def _unknown(value: Any) -> bool:
    return bool(pd.isna(value))


def _share_wrong(row: Row, name: str) -> Cell:
    if _unknown(row[name]):
        return Cell(UNKNOWN, "")
    low, high = wilson_interval(int(row[name]), int(row["num_eval"]))
    return Cell(f"{100 * row[name] / row['num_eval']:.1f}", f"{100 * low:.1f}–{100 * high:.1f}")


def _rate_line(row: Row, provenance: Provenance) -> Line:
    views: str = UNKNOWN if pd.isna(row["views"]) else str(int(row["views"]))
    images: str = UNKNOWN if pd.isna(row["num_images"]) else f"{int(row['num_images']):,}"
    cells = [Cell(f"{row['dataset']} {row['split']}"), Cell(views), _rate(row, "top1"), _rate(row, "top5"), Cell(images)]
    return _line(str(row["model"]), cells, row, provenance)


def _rate(row: Row, top: str) -> Cell:
    error, low, high = (row[f"{top}_{name}"] for name in ("error", "low", "high"))
    if pd.isna(error):
        return Cell(UNKNOWN, "")
    return Cell(f"{100 * error:.1f}", "" if pd.isna(low) else f"{100 * low:.1f}–{100 * high:.1f}")


def _gain_line(row: Row, provenance: Provenance) -> Line:
    change, low, high = (_points(-row[name]) for name in ("difference", "difference_high", "difference_low"))
    members = {"members": [*row["first_members"], *row["second_members"]]}
    cells = [
        Cell(text(f"gains.top{row['rank']}")),
        Cell(change, f"{low} … {high}"),
        Cell(p_value(row["p_value"]).removeprefix("p ").removeprefix("= ")),
    ]
    return _line(text("gains.against", first=row["first"], second=row["second"]), cells, {**row, **members}, provenance)


def _shift_line(row: Row, provenance: Provenance) -> Line:
    change, low, high = (_points(row[name]) for name in ("difference", "difference_low", "difference_high"))
    cells = [
        Cell(images_of({**row, **{name: None if pd.isna(row[name]) else row[name] for name in ("labels", "classes")}})),
        Cell(text(f"gains.top{row['rank']}")),
        _rate(row, "val"),
        Cell(f"{100 * row['error']:.1f}", f"{100 * row['low']:.1f}–{100 * row['high']:.1f}"),
        Cell(change, f"{low} … {high}"),
    ]
    return _line(str(row["model"]), cells, row, provenance)


def _points(difference: float) -> str:
    rounded = round(100 * difference, 1)
    return "0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "−")


def _colour_line(row: Row, provenance: Provenance) -> Line:
    cells = [
        Cell(str(int(row["kernels_per_tower"]))),
        Cell(f"{int(row['coloured_a'])} / {int(row['coloured_b'])}"),
        Cell(f"{number(row['mean_a'], 2)} / {number(row['mean_b'], 2)}"),
        Cell(number(row["auc"])),
        Cell(p_value(row["p_value"]).removeprefix("p ").removeprefix("= ")),
    ]
    return _line(str(row["model"]), cells, row, provenance)


def _score_line(kind: tuple[str, str, float | None], rows: pd.DataFrame, provenance: Provenance) -> Line:
    space, method, bits = kind
    cells = [Cell("" if bits is None else str(int(bits))), Cell(str(len(rows)))]
    cells += [_score(rows, name) for name in SCORES]
    return Line(_method(space, method), cells, origins=tuple(provenance.numbers(rows.to_dict("records"))))


def _score(rows: pd.DataFrame, name: str) -> Cell:
    values = rows[name].dropna()
    shown = _bits if name == "dead_bits" else number
    if values.empty:
        return Cell(UNKNOWN, "")
    mean = shown(float(values.mean()))
    if len(values) > 1:
        return Cell(mean, f"±{shown(float(values.std()))}")
    return Cell(mean, f"{number(rows['map_low'].iloc[0])}–{number(rows['map_high'].iloc[0])}" if name == "map" else "")


def _bits(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _line(name: str | Text, cells: list[Cell], row: Row, provenance: Provenance) -> Line:
    published = row.get("source", "measured") != "measured"
    origin = None if published else provenance.number(row)
    return Line(name, cells, str(row["source"]) if published else "", () if origin is None else (origin,))


def _method(space: str, method: str) -> Text:
    spaces = text(f"retrieval.{space}")
    return {language: words.format(space=spaces[language]) for language, words in catalogue()[f"retrieval.{method}"].items()}


def _by_method(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str, float | None], pd.DataFrame]]:
    for (space, method, bits), group in _by(rows, ["space", "method", "bits"]):
        yield (space, method, None if pd.isna(bits) else bits), group


def _by(rows: pd.DataFrame, columns: list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    yield from rows.groupby(columns, sort=False, dropna=False)


def _level(rows: pd.DataFrame, bits: list[float]) -> list[tuple[float, float]]:
    """Return the mean average precision of a method without codes, as a level line."""
    return [(at, float(rows["map"].mean())) for at in bits]


def _means(rows: pd.DataFrame, x: str, y: str) -> list[tuple[float, float]]:
    means: Callable[..., Any] = rows.groupby(x)[y].mean
    return [(float(at), float(value)) for at, value in means().items()]
