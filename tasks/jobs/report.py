"""Finished numbers to one page that opens in a browser: `report/<name>/<key>/index.html`, with the figures of the paper."""

from pathlib import Path
from typing import ClassVar

from tasks.job import Artifact, External, Job, Resource, Weights

PAGE = "index.html"
FIGURES = ("figure3", "figure4-left", "figure4-right")
"""Each as PNG and as PDF."""


class ReportJob(Job):
    """One report."""

    stages: ClassVar = ("report",)

    weights: tuple[Weights, ...]
    runs: dict[str, Artifact]
    """The runs that hold the weights, by the names of the networks, for their learning curves."""
    names: tuple[str, ...]
    """Of the networks, in the same order."""
    query_shards: Artifact
    database_shards: Artifact | None = None
    predictions: Artifact
    """Of the first network: panels and labels."""
    retrieved: Artifact | None = None
    """Neighbours of the first network."""
    tables: External
    """Digest of the rows that are shown."""
    table: str
    """The paper's table that the rows belong to."""
    seed: int = 0
    """Of the choice of images."""
    images: tuple[str, ...] = ()
    """Keys of the images to show as panels, instead of chosen ones."""
    name: Resource[str]
    tables_dir: Resource[Path]
    others: Resource[tuple[str, ...]] = ()
    """SHA-256 of networks that have error rates but are not in the rest of the report; `tables` covers their rows."""

    @property
    def title(self) -> str:
        """`report on demo`."""
        return f"report on {self.name}"

    @property
    def folder(self) -> Path:
        """`report/<name>`."""
        return Path("report", self.name)
