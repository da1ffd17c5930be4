"""Some finished sets, to the images that they hold more than once: `duplicates/<key>/duplicates.parquet`."""

from pathlib import Path
from typing import ClassVar

from tasks.job import Artifact, Job

DUPLICATES = "duplicates.parquet"


class DuplicatesJob(Job):
    """Sets to be compared by the SHA-256 of their source files."""

    stages: ClassVar = ("duplicates",)

    sets: dict[str, Artifact]

    @property
    def title(self) -> str:
        """`duplicates`."""
        return "duplicates"

    @property
    def folder(self) -> Path:
        """`duplicates`."""
        return Path("duplicates")
