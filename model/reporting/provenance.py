"""What made each number of the page, numbered in the order in which the page refers to it."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from model.reporting.catalogue import Text, text

COLUMNS = (
    "preset",
    "recipe",
    "seed",
    "members",
    "shards",
    "config",
    "code_version",
    "weights_code_versions",
    "run_id",
    "created_at",
)


class Provenance:
    """The different origins of the rows so far. `number` gives each a number from 1."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[tuple[str, str], ...], int] = {}

    def number(self, row: Mapping[Any, Any]) -> int | None:
        """Return the number of a row's origin; None for a published row, which names its source."""
        known = tuple((name, _shown(row[name])) for name in COLUMNS if name in row and _shown(row[name]))
        return self._numbers.setdefault(known, len(self._numbers) + 1) if known else None

    def numbers(self, rows: Iterable[Mapping[Any, Any]]) -> list[int]:
        """Return the numbers of several rows, each once."""
        return sorted({number for number in map(self.number, rows) if number is not None})

    @property
    def entries(self) -> list[tuple[int, str, list[tuple[Text, str]]]]:
        """The number, a short name, and the names and values of each origin."""
        return [
            (number, _short(dict(known)), [(text(f"provenance.{name}"), value) for name, value in known])
            for known, number in self._numbers.items()
        ]


def _shown(value: Any) -> str:
    """Return a value as text; empty if it is unknown."""
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(filter(None, map(_shown, value)))
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def _short(known: Mapping[str, str]) -> str:
    """Return `demo · paper · 5883cb500756`."""
    names = [known[name] for name in ("preset", "recipe") if name in known]
    return " · ".join([*names, *(known[name][:12] for name in ("members", "code_version") if name in known)])
