"""A user's photographs to their nearest training images: `searches/<key>` with `neighbours.parquet` and `neighbours.png`."""

from pathlib import Path
from typing import ClassVar

from tasks.job import Artifact, External, Job, Weights

PICTURE = "neighbours.png"


class SearchJob(Job):
    """Some image files to be searched with."""

    stages: ClassVar = ("search",)

    weights: Weights
    database: Artifact
    """Features of the training images."""
    database_shards: Artifact
    images: tuple[External, ...]
    """The SHA-256 of each file."""
    paths: tuple[Path, ...]
    """A setting, since the rows name them."""
    num_neighbours: int = 6

    @property
    def title(self) -> str:
        """`neighbours of 2 images`."""
        return f"neighbours of {len(self.paths)} image{'s' * (len(self.paths) != 1)}"

    @property
    def folder(self) -> Path:
        """`searches`."""
        return Path("searches")
