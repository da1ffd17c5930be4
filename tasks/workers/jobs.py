"""What each worker is told: the fields of its job file, and the names of the files it leaves beside it.

Kept apart from the workers, so that the process that starts them need not load torch's devices or DALI.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from data_shards.datasets.dataset import Dataset, Split
from data_shards.datasets.source import Source
from data_shards.planning import ShardConfig
from model.evaluation.classifiers import Classifier
from model.network.config import NetworkConfig
from model.training.config import TrainConfig

MEMBERS = "members.parquet"
BAD = "bad"
"""The folder of what could not be decoded, one file a shard, where that stops a run."""
CHECKSUMS = "checksums.json"
COLOURS = "colours.json"
MEAN_IMAGE = "mean_image.npy"
WEIGHTS = "weights.safetensors"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.parquet"
EVENTS = "events"
CURVES = "curves.png"
PREDICTIONS = "predictions.parquet"
DUPLICATES = "duplicates.parquet"

Views = Literal[1, 10]

Layout = Literal["towers", "one-piece", "replicas"]
"""A network's two towers one after the other, on one device or two; both towers in one piece on one device; or a replica on
each device, which share every batch."""


class MembersJob(BaseModel):
    """One archive or folder, to the list of what lies in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path


class ChecksumJob(BaseModel):
    """One archive, held against the MD5 that was published for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    archive: Path
    md5: str


class SetJob(BaseModel):
    """One split of one dataset, to a set of shards: what planning it and closing it take."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: Source
    split: Split
    config: ShardConfig
    unpack_dir: Path
    lists: dict[Path, Path]
    """For each of the dataset's archives, the list of its members."""
    directory: Path
    """Where the set is made."""
    work: Path
    """Where its plan lies, and what each shard adds to its lists, until it is finished."""

    def open_dataset(self) -> Dataset:
        """Return the dataset, its archives listed."""
        return self.source.open(self.unpack_dir, self.lists)


class ShardJob(SetJob):
    """Some of a set's shards: every `step`-th from `start` to before `stop`."""

    start: int
    stop: int
    step: int


class VerifyJob(BaseModel):
    """Some of a finished set's shards, to be read again."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    directory: Path
    """Of the set."""
    shards: list[str]
    """Names of the tars."""
    decode: bool
    """Whether every image is decoded."""


class DuplicatesJob(BaseModel):
    """Some finished sets, to the images that they hold more than once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sets: dict[str, Path]


class ColoursJob(BaseModel):
    """A training set's shards, to its colours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: Path
    num_threads: int


class TrainJob(BaseModel):
    """One network to be trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    network: NetworkConfig
    training: TrainConfig
    train_shards: Path
    val_shards: Path
    colours: Path
    """The `colours.json` measured on the training shards; the mean image lies beside it."""
    devices: tuple[str, ...] = ("cpu",)
    """One device for the network, two for a tower each, or any number for a replica each."""
    layout: Layout = "towers"
    num_threads: int = 1
    """CPU threads, for decoding and, where there is no GPU, for the network."""
    initial_weights: Path | None = None
    """Weights to be fine-tuned: all layers but the last are copied."""
    checkpoint_minutes: float = 10.0
    """Between two checkpoints; there is one after each epoch too."""
    record_every: int = 100
    """Steps a row of `metrics.parquet`."""


class PredictTarget(BaseModel):
    """One network, and the folder its predictions go to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    weights: Path
    digest: str
    """SHA-256 of the weights file."""
    output: Path
    classifier: Classifier | None = None
    """How a network that is not of this project is built and fed."""


class PredictJob(BaseModel):
    """Some networks on one split."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    targets: list[PredictTarget]
    shards: Path
    views: Views = 10
    batch_size: int = 40
    """Images decoded at a time; no result hangs on it."""
    devices: tuple[str, ...] = ("cpu",)
    """A process for each, with its share of the shards; no result hangs on how many."""
    num_threads: int = 1
    """CPU threads of a process; no result hangs on it."""
    about: dict[str, Any] = {}
    """What the files are to say of the images."""
