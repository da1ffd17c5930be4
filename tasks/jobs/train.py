"""One network to be trained: `runs/<name>/<key>`, with weights, metrics and curves."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import computed_field

from model.network.config import NetworkConfig
from model.training.config import TrainConfig
from tasks.job import Artifact, Job, Resource, Weights

WEIGHTS = "weights.safetensors"
CHALLENGER = "-challenger-"
"""Between the name of a champion and the seed, in the names of the networks that retraining makes."""
METRICS = "metrics.parquet"
EVENTS = "events"
CURVES = "curves.png"
CHECKPOINTS = "checkpoints"
"""In the scratch space."""

Layout = Literal["towers", "one-piece", "replicas"]
"""The two towers one after the other, on one device or two; both towers in one piece on one device; or a replica on each
device, which share every batch."""


class TrainJob(Job):
    """One network to be trained, from scratch or from other weights."""

    stages: ClassVar = ("train",)
    spreads: ClassVar = False
    resumable: ClassVar = True
    libraries: ClassVar = ("torch", "nvidia-dali-cuda130", "numpy")

    name: Resource[str]
    """Of the run."""
    recipe: Resource[str] = ""
    """The name of the training recipe; its values are `training`."""
    train: Artifact
    val: Artifact
    colours: Artifact
    """`colours.json` of the training set, with the mean image beside it."""
    initial: Weights | None = None
    """Weights to fine-tune: all layers but the last are copied."""
    keep_classes: bool | None = None
    """Whether the rows of the last layer are copied too, for the classes that these weights know; None for no."""
    network: NetworkConfig
    training: TrainConfig
    devices: Resource[tuple[str, ...]] = ("cpu",)
    """One device for the network, two for a tower each, or any number for a replica each; those of one machine."""
    num_machines: Resource[int] = 1
    """On each of which the replicas have these devices."""
    endpoint: Resource[str | None] = None
    """`HOST:PORT` of the first machine, at which the others meet it."""
    layout: Resource[Layout] = "towers"
    num_threads: Resource[int] = 1
    """CPU threads, for decoding and, without a GPU, for the network."""
    silent_minutes: Resource[float] = 5.0
    """After which a replica that the others wait for is lost; writing a checkpoint has to take less."""
    checkpoint_minutes: Resource[float] = 10.0
    """Between two checkpoints; there is one after each epoch too."""
    record_every: Resource[int] = 100
    """Steps per row of `metrics.parquet`."""

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def arithmetic(self) -> dict[str, Any]:
        """A setting: it decides the order in which floats are summed, and so the last bits of the weights."""
        kinds = [device.split(":")[0] for device in self.devices] * self.num_machines
        threads = self.num_threads if set(kinds) == {"cpu"} else None  # beside GPUs they only decode
        return {"devices": kinds, "layout": self.layout, "num_threads": threads}

    @property
    def title(self) -> str:
        """`demo-cnn-0`."""
        return self.name

    @property
    def folder(self) -> Path:
        """`runs/<name>`."""
        return Path("runs", self.name)
