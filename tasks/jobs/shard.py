"""One split of one dataset, to a set of shards: `shards/<dataset>/<split>/<key>`.

Three workers, one after another: `plan` decides which image goes into which shard, `shard` writes shards (any number of
processes), `close` joins what every shard left into the lists of the set.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from data_shards.datasets.dataset import Dataset, JobSource, Split
from data_shards.planning import Plan, ShardConfig
from tasks.job import WORK, External, Job, Resource

BAD = "bad"
"""In the scratch space: what could not be decoded, one file per shard, if that stops the run."""


class ShardJob(ShardConfig, Job):
    """One split to be sharded; the settings are those of `ShardConfig`."""

    stages: ClassVar = ("plan", "shard", "close")
    shared_stage: ClassVar = "shard"
    resumable: ClassVar = True
    large: ClassVar = True
    libraries: ClassVar = ("numpy", "opencv-python-headless", "pillow", "simplejpeg")

    dataset: External
    source: Resource[JobSource]
    dataset_name: Resource[str]
    split: Resource[Split]
    unpack_dir: Resource[Path]
    lists: Resource[Mapping[Path, Path]] = Field(default_factory=dict)
    """For each of the archives, the list of its members."""
    bad_images: Resource[Literal["error", "report"]] = "error"
    """What is done about bad images does not change a set that has none; `tasks.shard` checks one that has."""

    @property
    def title(self) -> str:
        """`shards of ilsvrc2012 train`."""
        return f"shards of {self.dataset_name} {self.split}"

    @property
    def folder(self) -> Path:
        """`shards/<dataset>/<split>`."""
        return Path("shards", self.dataset_name, self.split)

    @property
    def modules(self) -> tuple[str, ...]:
        """The workers, and the module of this dataset alone: a new dataset makes no other one's shards old."""
        return (*super().modules, type(self.source).__module__)

    def num_units(self, directory: Path) -> int:
        """Return the number of shards that are planned."""
        return len(Plan(directory / WORK))

    def open_dataset(self) -> Dataset:
        """Return the dataset, its archives listed."""
        return self.source.open(self.unpack_dir, self.lists)
