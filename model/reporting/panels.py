"""Images with their five most probable labels as bars. [K12 figure 4, left]

`choose_images` chooses them by their keys alone, so that no answer of the network can favour an image.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from base.errors import InputError
from model.reporting.figures import save
from model.reporting.photographs import first_synonym, square

NUM_PANELS = 8
"""[K12 figure 4]"""
PER_ROW = 4

CELL, SIDE, BARS, MARGIN = (2.25, 3.65), 2.1, 1.05, 0.075
"""Inches: an image with its bars, the image, the bars, and the space around them."""

TRUE_COLOUR, OTHER_COLOUR = "#ec9a85", "#b5cbdd"
"""(ours) After the authors' light red for the true class and light blue for the others; they differ in lightness too."""


@dataclass(frozen=True)
class Panel:
    """One labelled image, and the network's best answers."""

    image_id: str
    jpeg: bytes
    wnid: str
    """The true class."""
    best: tuple[tuple[str, float], ...]
    """WNID and probability, the most probable first."""


def choose_images(image_ids: Iterable[str], count: int = NUM_PANELS, seed: int = 0) -> list[str]:
    """Return `count` of the images: those with the lowest SHA-256 of seed and key. Their order does not matter."""
    return sorted(image_ids, key=lambda image_id: sha256(f"{seed} {image_id}".encode()).digest())[:count]


def make_panels(predictions: pd.DataFrame, jpegs: Mapping[str, bytes]) -> list[Panel]:
    """Return a panel for each image of `jpegs`, from the columns of a predictions file.

    Raises:
        InputError: an image was not predicted, or has no label.
    """
    rows = {str(row["image_id"]): row for row in predictions.to_dict("records") if isinstance(row["wnid"], str)}
    missing = [image_id for image_id in jpegs if image_id not in rows]
    if missing:
        raise InputError(f"no labelled prediction for {', '.join(missing[:3])}; choose images of the split that was scored")
    return [Panel(image_id, jpeg, str(rows[image_id]["wnid"]), _best(rows[image_id])) for image_id, jpeg in jpegs.items()]


def draw_panels(panels: Sequence[Panel], names: Mapping[str, str], path: Path) -> None:
    """Write a PNG, PDF or SVG, as the suffix of `path` says. `names` holds the words of each WNID."""
    columns = min(PER_ROW, len(panels))
    rows = -(-len(panels) // columns)
    width, height = CELL[0] * columns, CELL[1] * rows
    figure = Figure(figsize=(width, height))
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        left, top = CELL[0] * column + MARGIN, height - CELL[1] * row - MARGIN
        _draw_image(_axes(figure, left, top - SIDE, SIDE), panel, names)
        _draw_bars(_axes(figure, left, top - SIDE - 0.3 - BARS, BARS), panel, names)
    save(figure, path)


def _axes(figure: Figure, left: float, bottom: float, axes_height: float) -> Axes:
    """Return empty axes as wide as an image; all lengths in inches."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, bottom / height, SIDE / width, axes_height / height))
    axes.set_axis_off()
    return axes


def _best(row: Mapping[Hashable, Any]) -> tuple[tuple[str, float], ...]:
    return tuple((str(wnid), float(prob)) for wnid, prob in zip(row["top5_wnid"], row["top5_prob"], strict=True))


def _draw_image(axes: Axes, panel: Panel, names: Mapping[str, str]) -> None:
    axes.imshow(square(panel.jpeg, 256))
    name = first_synonym(names.get(panel.wnid, panel.wnid))
    axes.set_title(name, y=-0.13, fontsize=10, fontweight="bold", parse_math=False)


def _draw_bars(axes: Axes, panel: Panel, names: Mapping[str, str]) -> None:
    for place, (wnid, prob) in enumerate(panel.best):
        axes.barh(place, prob, height=0.82, color=TRUE_COLOUR if wnid == panel.wnid else OTHER_COLOUR)
        axes.text(0.02, place, first_synonym(names.get(wnid, wnid)), va="center", fontsize=8, color="black", parse_math=False)
    axes.set(xlim=(0, 1), ylim=(4.6, -0.6))
