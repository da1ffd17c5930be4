"""The first layer's kernels as a picture, in the layout of the paper: 16 a row, tower a first. [K12 figure 3]

Called for finished weights, and by `model.reporting.page`. Kernels are float arrays (K, 3, 11, 11) in red, green, blue.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from model.reporting.figures import save

KERNELS_PER_ROW = 16
"""[CHM shownet.py] Figure 3 has 6 rows of 16, three for each tower."""

PIXELS_PER_WEIGHT = 6
"""(ours) In the PNG. The other formats have no pixels."""

GAP = 1
"""Between kernels, in weights."""


def draw_kernels(towers: Sequence[NDArray[np.floating]], path: Path) -> None:
    """Write a PNG, or a PDF or SVG in which each weight is a rectangle, as the suffix of `path` says.

    All kernels share one scale, and a weight of zero is mid-grey.
    """
    sheet = kernel_sheet(towers)
    rows, columns = sheet.shape[:2]
    figure = Figure(figsize=(columns * PIXELS_PER_WEIGHT / 100, rows * PIXELS_PER_WEIGHT / 100))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.pcolormesh(np.arange(columns + 1), np.arange(rows + 1), sheet / 255, antialiased=False)
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    save(figure, path, dpi=100)


def kernel_sheet(towers: Sequence[NDArray[np.floating]]) -> NDArray[np.uint8]:
    """Return the picture with one pixel for each weight: (rows, columns, 3), white between the kernels.

    Each tower starts on a row of its own.
    """
    scale = max(float(np.abs(kernels).max()) for kernels in towers) or 1.0
    return np.concatenate([_tower_sheet(kernels, scale) for kernels in towers])[:-GAP]


def png_of(sheet: NDArray[np.uint8]) -> bytes:
    """Return a small PNG of a sheet, for a page that enlarges it without smoothing."""
    data = io.BytesIO()
    Image.fromarray(sheet).save(data, "PNG", optimize=True)
    return data.getvalue()


def _tower_sheet(kernels: NDArray[np.floating], scale: float) -> NDArray[np.uint8]:
    count, _, height, width = kernels.shape
    rows = -(-count // KERNELS_PER_ROW)
    columns = min(count, KERNELS_PER_ROW)
    colours = np.round(127.5 + 127.5 * kernels.astype(np.float64) / scale).astype(np.uint8).transpose(0, 2, 3, 1)
    sheet = np.full((rows * (height + GAP), columns * (width + GAP), 3), 255, np.uint8)
    for place, kernel in enumerate(colours):
        top, left = (step * (size + GAP) for step, size in zip(divmod(place, columns), (height, width), strict=True))
        sheet[top : top + height, left : left + width] = kernel
    return sheet[:, :-GAP]
