"""Line charts as SVG inside the page: they take the page's colours, light or dark, and its language."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup, escape

from model.reporting.catalogue import LANGUAGES, Text

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 42, 350, 14, 190
"""The plot inside the picture."""

BESIDE = 7
"""By how much points that no line joins are moved to the side, so that they do not cover those of a line."""

NUM_STYLES = 8
"""Lines that page.css tells apart by colour and dashes."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """A line with a name."""

    name: Text
    points: Points
    style: int | None = None
    """Number of its colour and dashes; None for its place among the lines. Equal methods look equal in two charts."""
    intervals: Points = ()
    """The low and the high end of each point's interval, in the order of the points; none if they are not drawn."""
    joined: bool = True
    """Whether a line goes through the points."""


@dataclass(frozen=True)
class Chart:
    """Some lines over the same axes."""

    title: Text
    x_title: Text
    series: Sequence[Series]
    x_ticks: Sequence[float] | None = None
    """Values at even distances, whatever they are; None for a scale from the lowest to the highest."""
    x_labels: Sequence[str] | None = None
    """What is written at the ticks instead of their values."""

    @property
    def styles(self) -> list[int]:
        """The number of the style of each line."""
        return [(place if one.style is None else one.style) % NUM_STYLES for place, one in enumerate(self.series)]

    @property
    def svg(self) -> Markup:
        """The picture; to a screen reader it is its title and the last value of each line."""
        points = [point for series in self.series for point in series.points]
        if not points:
            return Markup("")
        y_ticks = nice_ticks(0.0, max([y for _, y in points] + [high for one in self.series for _, high in one.intervals]))
        x_ticks = self.x_ticks or nice_ticks(min(x for x, _ in points), max(x for x, _ in points))
        parts = [*self._grid(x_ticks, y_ticks), *(self._line(i, x_ticks, y_ticks) for i in range(len(self.series)))]
        head = Markup('<svg viewBox="0 0 {} {}" role="img" direction="ltr" aria-label="{}" {}>').format(
            WIDTH, HEIGHT, self.summary["en"], _both("data-label", self.summary)
        )
        return head + Markup("\n").join(parts) + Markup("</svg>")

    @property
    def summary(self) -> Text:
        """The title, and where each line ends."""
        ends = {language: [f"{one.name[language]} {max(one.points)[1]:.3g}" for one in self.series] for language in LANGUAGES}
        return {language: f"{self.title[language]}: {'; '.join(ends[language])}" for language in LANGUAGES}

    def _grid(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[Markup]:
        rows = [
            Markup(
                '<path class="grid" d="M{} {:.1f}H{}"/><text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
            ).format(LEFT, y, RIGHT, LEFT - 6, y + 3.5, _short(tick))
            for tick in y_ticks
            for y in [_scaled(tick, y_ticks[0], y_ticks[-1], BOTTOM, TOP)]
        ]
        columns = [
            Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                self._x(tick, x_ticks), BOTTOM + 16, label
            )
            for tick, label in zip(x_ticks, self.x_labels or map(_short, x_ticks), strict=True)
        ]
        title = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle" {}>{}</text>').format(
            (LEFT + RIGHT) / 2, BOTTOM + 34, _both("data", self.x_title), self.x_title["en"]
        )
        return [*rows, *columns, title]

    def _line(self, number: int, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
        series = self.series[number]
        beside = 0 if series.joined else BESIDE
        intervals: Sequence[Sequence[float]] = series.intervals or [()] * len(series.points)
        at = [
            (self._x(x, x_ticks) + beside, *(_scaled(value, y_ticks[0], y_ticks[-1], BOTTOM, TOP) for value in (y, *ends)))
            for (x, y), ends in sorted(zip(series.points, intervals, strict=True))
        ]
        lines = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, *_ in at) if series.joined else ""
        spans = "".join(f"M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}" for x, _, *ends in at if ends)
        path = f'<path d="{lines}"/>' * bool(lines) + f'<path class="interval" d="{spans}"/>' * bool(spans)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y, *_ in at)
        shown = path + dots * (len(at) <= 16 or not series.joined)
        return Markup('<g class="line line-{}">{}</g>').format(self.styles[number], Markup(shown))

    def _x(self, value: float, ticks: Sequence[float]) -> float:
        if self.x_ticks is None:
            return _scaled(value, ticks[0], ticks[-1], LEFT + 8, RIGHT - 8)
        return _scaled(float(list(ticks).index(value)), 0, max(1, len(ticks) - 1), LEFT + 24, RIGHT - 24)


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values, evenly spaced, that reach from at most `low` to at least `high`."""
    span = (high - low) or abs(high) or 1.0
    unit = 10.0 ** floor(log10(span / (most - 1)))
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if span / (unit * factor) <= most - 1)
    first, last = floor(low / step + 1e-9), max(ceil(high / step - 1e-9), floor(low / step + 1e-9) + 1)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _scaled(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (value - low) / (high - low) * (end - start)


def _short(value: float) -> str:
    return f"{value:,.6g}"


def _both(prefix: str, words: Text) -> Markup:
    return Markup(" ").join(Markup('{}-{}="{}"').format(prefix, language, escape(words[language])) for language in LANGUAGES)
