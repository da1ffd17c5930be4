"""One vector per image of a split: `features/<weights>/<dataset>-<split>/<key>/<shard>.arrow`, or pixels in `pixels/…`.

Features are the last hidden layer of a network; pixels are the centre view that it receives. Worker `embed` writes one file per
shard (any number of processes), worker `embedded` checks that every image has a vector. `model.retrieval.vectors` documents the
file format.
"""

from pathlib import Path
from typing import ClassVar, Literal

from model.evaluation.classifiers import Factory
from tasks.job import Artifact, Job, Resource, Weights


class EmbedJob(Job):
    """One split to be embedded by one network, or to be kept as pixels."""

    stages: ClassVar = ("embed", "embedded")
    shared_stage: ClassVar = "embed"
    together: ClassVar = True
    resumable: ClassVar = True
    large: ClassVar = True
    libraries: ClassVar = ("torch", "nvidia-dali-cuda130", "numpy", "pyarrow")

    shards: Artifact
    weights: Weights | None = None
    """None for pixels."""
    crop: int | None = None
    """Side of the centre view in pixels, only for pixels; a network's own otherwise."""
    dtype: Literal["float32", "float16"] | None = None
    """Of the features."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    factory: Factory | None = None
    """How a network that is not of this project is built and fed."""
    layer: str | None = None
    """The layer of such a network whose output is the features."""
    factory_code: str | None = None
    """SHA-256 of the file that holds its factory."""
    factory_folder: Resource[Path | None] = None
    """Where the module of its factory may be, besides what is installed: the folder that the user stands in."""
    dataset: Resource[str]
    split: Resource[str]
    devices: Resource[tuple[str, ...]] = ("cpu",)
    num_threads: Resource[int | None] = 1
    """CPU threads per process. None: as `OMP_NUM_THREADS` says where it runs."""
    batch_size: Resource[int] = 256

    @property
    def title(self) -> str:
        """`features of val`, `pixels of val`."""
        return f"{'pixels' if self.weights is None else 'features'} of {self.split}"

    @property
    def folder(self) -> Path:
        """`features/<weights>/<dataset>-<split>` or `pixels/<dataset>-<split>`."""
        name = f"{self.dataset}-{self.split}"
        return Path("pixels", name) if self.weights is None else Path("features", self.weights.digest[:12], name)

    def num_units(self, directory: Path) -> int:
        """Return the number of shards."""
        del directory
        return self.shards.counts.get("shards", 1)


def vectors_path(directory: Path, shard_name: str) -> Path:
    """Return the file with the vectors of one shard."""
    return directory / f"{shard_name.removesuffix('.tar')}.arrow"
