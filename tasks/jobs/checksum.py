"""One archive, compared with the MD5 that was published for it: `checksums/<name>/<key>`, which holds nothing but counts."""

from pathlib import Path
from typing import ClassVar

from tasks.job import External, Job, Resource


class ChecksumJob(Job):
    """One archive to be read."""

    stages: ClassVar = ("checksum",)

    archive: External
    path: Resource[Path]
    md5: str

    @property
    def title(self) -> str:
        """`MD5 of ILSVRC2012_img_train.tar`."""
        return f"MD5 of {self.path.name}"

    @property
    def folder(self) -> Path:
        """`checksums/<name>`."""
        return Path("checksums", self.path.name)
