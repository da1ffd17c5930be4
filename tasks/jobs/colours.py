"""A training set's shards, to the colours that training subtracts: `colours/<key>`."""

from pathlib import Path
from typing import ClassVar

from tasks.job import Artifact, Job, Resource

COLOURS = "colours.json"
MEAN_IMAGE = "mean_image.npy"


class ColoursJob(Job):
    """One training set to be measured."""

    stages: ClassVar = ("colours",)

    shards: Artifact
    dataset: Resource[str]
    num_threads: Resource[int]

    @property
    def title(self) -> str:
        """`colours of ilsvrc2012`."""
        return f"colours of {self.dataset}"

    @property
    def folder(self) -> Path:
        """`colours`."""
        return Path("colours")
