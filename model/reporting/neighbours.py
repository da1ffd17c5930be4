"""Query images, each with its nearest training images and a border that says whether their class is the same. [K12 figure 4]"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.reporting.figures import save
from model.reporting.photographs import Picture, square

SIDE = 192
"""(ours) Pixels of an image, enough for print at the width of a column."""

RIGHT, WRONG, QUERY = "#0072b2", "#d55e00", "none"
"""(ours) Colours that are told apart without red and green; a wrong one has a dashed border too. [Okabe & Ito 2008]"""


@dataclass(frozen=True)
class Strip:
    """A query and its neighbours, the nearest first."""

    query: bytes
    """JPEG."""
    neighbours: tuple[bytes, ...]
    right: tuple[bool, ...]
    """Whether each neighbour is of the query's class."""


def make_strips(neighbours: pd.DataFrame, query_picture: Picture, database_picture: Picture) -> list[Strip]:
    """Return a strip for each query of some rows of `neighbours`, which are of one space and one method."""
    strips = []
    for query, group in neighbours.groupby("query_id", sort=False):
        rows = group.sort_values("rank")
        right = tuple(bool(same) for same in rows["neighbour_wnid"] == rows["query_wnid"])
        strips.append(Strip(query_picture(str(query)), tuple(map(database_picture, rows["neighbour_id"])), right))
    return strips


def draw_strips(strips: Sequence[Strip], path: Path) -> None:
    """Write a PNG, PDF or SVG with one row for each query: the query, a gap, its neighbours."""
    columns = 1 + max(len(strip.neighbours) for strip in strips)
    figure = Figure(figsize=(1.1 * (columns + 0.15), 1.1 * len(strips)))
    grid = figure.subplots(
        len(strips),
        columns + 1,
        squeeze=False,
        width_ratios=[1, 0.08, *[1] * (columns - 1)],
        gridspec_kw={"wspace": 0.08, "hspace": 0.08, "left": 0.01, "right": 0.99, "top": 0.99, "bottom": 0.01},
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for row, strip in zip(grid, strips, strict=True):
        _draw(row[0], strip.query, QUERY, "solid")
        for axes, jpeg, right in zip(row[2:], strip.neighbours, strip.right, strict=False):
            _draw(axes, jpeg, RIGHT if right else WRONG, "solid" if right else (0, (3, 1.5)))
    save(figure, path)


def _draw(axes: Axes, jpeg: bytes, colour: str, style: str | tuple[float, tuple[float, float]]) -> None:
    axes.imshow(square(jpeg, SIDE))
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=2.5, linestyle=style)
