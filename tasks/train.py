"""Shards to weights: one network a step, several at a time where there is room."""

from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path

from prefect import task
from prefect.runtime import task_run
from pydantic import BaseModel, ConfigDict

from model.network.config import NetworkConfig
from model.training.config import TrainConfig
from tasks.artifacts import Artifact, location, recipe
from tasks.compute import Compute
from tasks.gpus import held
from tasks.steps import Step, make
from tasks.workers.jobs import COLOURS, WEIGHTS, TrainJob

TRAINING_CODE = ("model.network", "model.training", "data_shards.loading")


class TrainingSet(BaseModel):
    """What a network learns from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Artifact
    val: Artifact
    colours: Artifact

    def __str__(self) -> str:
        return "\n".join(f"{name:8}{artifact}" for name, artifact in self)


class Weights(BaseModel):
    """A weights file, from a run of this workspace or from anywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    digest: str
    """SHA-256 of the file."""

    def __str__(self) -> str:
        return f"{self.path}  sha256 {self.digest[:12]}"


class Training(BaseModel):
    """One network to be trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Of the run: `runs/<name>/<digest>`."""
    network: NetworkConfig
    config: TrainConfig
    data: TrainingSet
    initial: Weights | None = None
    """The weights that are fine-tuned."""


def _run_name() -> str:
    return f"train {len(task_run.parameters['trainings'])} networks"


@task(task_run_name=_run_name)
def train_networks(trainings: Sequence[Training], compute: Compute, workspace: Path) -> list[Weights]:
    """Train every network that is not there yet, going on with those that were begun: `runs/<name>/<digest>`."""
    steps = [_step(training, compute, workspace) for training in trainings]
    runs = make(steps, compute.at_once, holding=held(compute.gpus))
    return [open_weights(run.path / WEIGHTS) for run in runs]


def open_weights(path: Path) -> Weights:
    """Name a weights file by its content.

    Raises:
        FileNotFoundError: there is none.
    """
    path = path.expanduser().absolute()
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}; expected the {WEIGHTS} of a finished run")
    with open(path, "rb") as file:
        return Weights(path=path, digest=file_digest(file, "sha256").hexdigest())


def _step(training: Training, compute: Compute, workspace: Path) -> Step:
    data = training.data
    inputs = {"train": data.train.digest, "val": data.val.digest, "colours": data.colours.digest}
    if training.initial is not None:
        inputs["initial"] = training.initial.digest
    config = {
        "network": training.network.model_dump(mode="json"),
        "training": training.config.model_dump(mode="json"),
        # They decide the order in which floats are summed, and with it the last bits of the weights.
        "arithmetic": {
            "devices": compute.kinds,
            "layout": compute.layout,
            "num_threads": None if compute.gpus else compute.num_threads,  # beside GPUs they only decode
        },
    }
    made_from = recipe(inputs, config, *TRAINING_CODE)
    job = TrainJob(
        network=training.network,
        training=training.config,
        train_shards=data.train.path,
        val_shards=data.val.path,
        colours=data.colours.path / COLOURS,
        devices=compute.devices,
        layout=compute.layout,
        num_threads=compute.num_threads,
        initial_weights=None if training.initial is None else training.initial.path,
    )
    path = location(workspace / "runs" / training.name, made_from)
    worker = "replicas" if compute.layout == "replicas" else "train"
    return Step(training.name, path, made_from, worker, job, resumable=True)
