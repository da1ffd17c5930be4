"""One network on one split: `predictions/<weights>/<dataset>-<split>/<key>/predictions.parquet`.

Several networks are predicted together, so that images are decoded once. Worker `predict` writes one part per shard (any number
of processes), worker `join` joins them.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from model.evaluation.classifiers import Classifier
from tasks.job import WORK, Artifact, Job, Resource, Weights

PREDICTIONS = "predictions.parquet"
PARTS = "parts"
"""In the scratch space, one file per shard."""

Views = Literal[1, 10]


class PredictJob(Job):
    """One network to be tested on one split."""

    stages: ClassVar = ("predict", "join")
    shared_stage: ClassVar = "predict"
    together: ClassVar = True
    resumable: ClassVar = True
    libraries: ClassVar = ("torch", "nvidia-dali-cuda130", "numpy", "pyarrow")

    weights: Weights
    shards: Artifact
    views: Views = 10
    device: str = "cpu"
    """`cpu` or `cuda`."""
    classifier: Classifier | None = None
    """How a network that is not of this project is built and fed."""
    factory_code: str | None = None
    """SHA-256 of the file that holds its factory."""
    factory_folder: Resource[Path | None] = None
    """Where the module of its factory may be, besides what is installed: the folder that the user stands in."""
    other_classes: bool | None = None
    """Whether a network of this project may have other classes than the images: outputs of classes that the images lack are
    left out of the ranking, and images of a class without an output count as wrong. By default both are refused."""
    dataset: Resource[str]
    split: Resource[str]
    devices: Resource[tuple[str, ...]] = ("cpu",)
    """One per process; their number does not show in the result."""
    num_threads: Resource[int | None] = 1
    """CPU threads per process; their number does not show in the result. None: as `OMP_NUM_THREADS` says where it runs."""
    batch_size: Resource[int] = 40
    """Images decoded at a time; it does not show in the result."""
    about: Resource[dict[str, Any]] = Field(default_factory=dict)
    """What the file says about the images."""

    @property
    def title(self) -> str:
        """`predictions on val`."""
        return f"predictions on {self.split}"

    @property
    def folder(self) -> Path:
        """`predictions/<weights>/<dataset>-<split>`."""
        return Path("predictions", self.weights.digest[:12], f"{self.dataset}-{self.split}")

    def num_units(self, directory: Path) -> int:
        """Return the number of shards."""
        del directory
        return self.shards.counts.get("shards", 1)


def part_path(directory: Path, shard_name: str) -> Path:
    """Return where the predictions of one shard are until they are joined."""
    return directory / WORK / PARTS / f"{shard_name.removesuffix('.tar')}.parquet"
