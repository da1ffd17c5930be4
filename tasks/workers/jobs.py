"""What each worker is told: the fields of its job file, and the names of the files it leaves beside it.

Kept apart from the workers, so that the process that starts them need not load torch's devices or DALI.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from data_shards.datasets.dataset import Split
from data_shards.datasets.source import Source
from data_shards.writing import ShardConfig
from model.evaluation.classifiers import Classifier
from model.network.config import NetworkConfig
from model.training.config import TrainConfig

COLOURS = "colours.json"
WEIGHTS = "weights.safetensors"
CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.parquet"
PREDICTIONS = "predictions.parquet"

Views = Literal[1, 10]


class ShardJob(BaseModel):
    """One split of one dataset, to shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    split: Split
    config: ShardConfig
    unpack_dir: Path
    num_workers: int


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
    """The `colours.json` measured on the training shards."""
    devices: tuple[str, ...] = ("cpu",)
    """One device for the network, or two: one for each tower."""
    num_threads: int = 1
    """CPU threads, for decoding and, where there is no GPU, for the network."""
    initial_weights: Path | None = None
    """Weights to be fine-tuned: all layers but the last are copied."""


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
