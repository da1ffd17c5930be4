"""Shards to weights: one network per job, several at a time if there is room."""

from collections.abc import Sequence
from hashlib import file_digest
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.runtime import task_run
from pydantic import BaseModel, ConfigDict

from base.errors import InputError
from model.evaluation.error_rates import ErrorCounts
from model.network.config import NetworkConfig
from model.training.config import TrainConfig
from tasks.compute import Compute
from tasks.job import Artifact, Job, Weights
from tasks.jobs.train import CURVES, METRICS, WEIGHTS, TrainJob
from tasks.make import make
from tasks.workspace import Workspace


class TrainRecord(BaseModel):
    """A trained network: where it is, and what it has reached."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    weights: Weights
    metrics: Path
    curves: Path
    val: ErrorCounts | None
    """On the validation images, of the centre view, when they were last looked at; None if they never were."""
    epoch: int
    """After which that was."""

    def __str__(self) -> str:
        reached = "no errors were measured"
        if self.val is not None:
            reached = (
                f"{self.val.top1_error:.1%} top-1 and {self.val.top5_error:.1%} top-5 error ({self.val.top1_wrong:,} and "
                f"{self.val.top5_wrong:,} of {self.val.num_images:,} validation images, centre view) after epoch {self.epoch}"
            )
        return f"{reached}\nweights  {self.weights}\nmetrics  {self.metrics}\ncurves   {self.curves}"


def read_record(weights: Weights) -> TrainRecord:
    """Return what a finished run of this workspace has reached, from its `metrics.parquet`."""
    metrics = pd.read_parquet(weights.path.with_name(METRICS))
    measured = metrics[metrics["val_num_images"].notna()]
    last = None if measured.empty else measured.iloc[-1]
    return TrainRecord(
        weights=weights,
        metrics=weights.path.with_name(METRICS),
        curves=weights.path.with_name(CURVES),
        val=None
        if last is None
        else ErrorCounts(*(int(last[f"val_{name}"]) for name in ("num_images", "top1_wrong", "top5_wrong"))),
        epoch=0 if last is None else int(last["epoch"]),
    )


def _run_name() -> str:
    jobs = task_run.parameters["jobs"]
    return f"train {jobs[0].name}" if len(jobs) == 1 else f"train {len(jobs)} networks"


@task(task_run_name=_run_name)
def train_networks(jobs: Sequence[TrainJob], compute: Compute, workspace: Workspace) -> list[Weights]:
    """Train every network that is missing, resuming those that were begun: `runs/<name>/<key>`."""
    runs = make(jobs, workspace, compute.at_once, gpus=compute.gpus, finish=_draw_curves)
    return [open_weights(run.path / WEIGHTS) for run in runs]


def plan_training(
    name: str,
    recipe: str,
    network: NetworkConfig,
    training: TrainConfig,
    data: dict[str, Artifact],
    compute: Compute,
    initial: Weights | None = None,
) -> TrainJob:
    """Return the job that trains a network with an output for every class of the data (`train`, `val`, `colours`)."""
    return TrainJob(
        name=name,
        recipe=recipe,
        **data,
        initial=initial,
        network=network.model_copy(update={"num_classes": data["train"].counts["classes"]}),
        training=training,
        devices=compute.devices,
        layout=compute.layout,
        num_machines=compute.num_machines,
        endpoint=compute.endpoint,
        num_threads=compute.num_threads,
    )


def open_weights(path: Path) -> Weights:
    """Identify a weights file by its content.

    Raises:
        InputError: there is none.
    """
    path = path.expanduser().absolute()
    if not path.is_file():
        raise InputError(f"no weights file {path}; expected the {WEIGHTS} of a finished run")
    with open(path, "rb") as file:
        return Weights(path=path, digest=file_digest(file, "sha256").hexdigest())


def _draw_curves(job: Job, directory: Path) -> None:
    """Draw the curves here: a worker that trains needs no Matplotlib."""
    from model.reporting.curves import draw_curves  # it takes half a second, which a run that finds everything need not wait

    draw_curves({job.title: pd.read_parquet(directory / METRICS)}, directory / CURVES)
