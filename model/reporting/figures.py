"""Write a Matplotlib figure: whole or not at all, and the same bytes each time."""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from base.files import atomic_write

UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Creator": None, "Date": None},
}
"""Metadata that is left out, so that two pictures of the same numbers are equal."""


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a PNG, PDF or SVG, as the suffix of `path` says. `dpi` is the resolution of a PNG and of photographs."""
    kind = path.suffix.removeprefix(".")
    with rc_context({"svg.hashsalt": "figure", "pdf.fonttype": 42}), atomic_write(path) as file:
        figure.savefig(file, format=kind, dpi=dpi, metadata=UNDATED[kind])
