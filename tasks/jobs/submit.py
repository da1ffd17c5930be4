"""Predictions to the text file that ILSVRC took: `submissions/<dataset>-<split>/<key>/submission.txt`."""

from pathlib import Path
from typing import ClassVar

from tasks.job import Artifact, Job, Resource

SUBMISSION = "submission.txt"


class SubmitJob(Job):
    """One network, or the average of several, to be submitted."""

    stages: ClassVar = ("submit",)

    predictions: tuple[Artifact, ...]
    shards: Artifact
    dataset: Resource[str]
    split: Resource[str]

    @property
    def title(self) -> str:
        """`submission for ilsvrc2012 test`."""
        return f"submission for {self.dataset} {self.split}"

    @property
    def folder(self) -> Path:
        """`submissions/<dataset>-<split>`."""
        return Path("submissions", f"{self.dataset}-{self.split}")
