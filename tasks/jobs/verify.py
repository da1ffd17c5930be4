"""A finished set of shards, read again: `verified/<dataset>-<split>/<key>/faults.json`.

Worker `verify` reads shards (any number of processes), worker `faults` joins what they found.
"""

from datetime import datetime
from pathlib import Path
from typing import ClassVar

from tasks.job import Artifact, Job, Resource

FAULTS = "faults.json"


class VerifyJob(Job):
    """One set to be read again."""

    stages: ClassVar = ("verify", "faults")
    shared_stage: ClassVar = "verify"

    shards: Artifact
    """As its manifest says."""
    dataset: Resource[str]
    split: Resource[str]
    decode: bool
    """Whether every image is decoded."""
    at: datetime
    """A setting: an old reading says nothing about the disk of today."""

    @property
    def title(self) -> str:
        """`ilsvrc2012 train`."""
        return f"{self.dataset} {self.split}"

    @property
    def folder(self) -> Path:
        """`verified/<dataset>-<split>`."""
        return Path("verified", f"{self.dataset}-{self.split}")

    def num_units(self, directory: Path) -> int:
        """Return the number of shards."""
        del directory
        return self.shards.counts.get("shards", 1)
