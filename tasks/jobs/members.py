"""One archive or folder, to the list of its images: `members/<name>/<key>/members.parquet`."""

from pathlib import Path
from typing import ClassVar

from tasks.job import External, Job, Resource

MEMBERS = "members.parquet"


class MembersJob(Job):
    """One archive or folder to be listed."""

    stages: ClassVar = ("members",)

    archive: External
    root: Resource[Path]

    @property
    def title(self) -> str:
        """`members of ILSVRC2012_img_train.tar`."""
        return f"members of {self.root.name}"

    @property
    def folder(self) -> Path:
        """`members/<name>`."""
        return Path("members", self.root.name)
