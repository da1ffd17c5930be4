"""Weights and a split to one predictions file a network. One worker serves all networks, so that images are decoded once."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from prefect import task

from data_shards.datasets.dataset import Split
from tasks.artifacts import JOB, Artifact, Recipe, begin, find, location, publish, recipe, write_synced
from tasks.compute import Compute
from tasks.launch import Job, launch
from tasks.shard import dataset_name
from tasks.steps import Watch, processors, read_counts, run_log
from tasks.train import Weights
from tasks.workers.jobs import PREDICTIONS, PredictJob, PredictTarget, Views

PREDICTION_CODE = ("model.network", "model.evaluation.predict", "model.evaluation.predictions", "data_shards.loading")
BATCH_SIZE = 32
"""(ours) Images; ten times as many views."""


class _Target(NamedTuple):
    """One network's predictions, made or not."""

    weights: Path
    path: Path
    recipe: Recipe


@task(task_run_name="predict {split}, {views} views")
def predict_split(
    networks: Sequence[Weights], shards: Artifact, split: Split, views: Views, compute: Compute, workspace: Path
) -> list[Artifact]:
    """Predict the split with every network that has not done so yet: `predictions/<weights>/<dataset>-<split>/<digest>`."""
    log = run_log()
    targets = [_target(weights, shards, split, views, compute, workspace) for weights in networks]
    missing = [target for path, target in {target.path: target for target in targets}.items() if find(path) is None]
    log.info("%d of %d networks have not seen %s yet", len(missing), len(targets), split)
    if missing:
        _predict(missing, shards, views, compute, f"predictions on {split}", Watch([f"predictions on {split}"], log))
    return [_found(target.path) for target in targets]


def predictions_file(predictions: Artifact) -> Path:
    """Return the Parquet file of finished predictions."""
    return predictions.path / PREDICTIONS


def _target(weights: Weights, shards: Artifact, split: Split, views: Views, compute: Compute, workspace: Path) -> _Target:
    config = {"views": views, "device": compute.kinds[0]}
    made_from = recipe({"weights": weights.digest, "shards": shards.digest}, config, *PREDICTION_CODE)
    parent = workspace / "predictions" / weights.digest[:12] / f"{dataset_name(shards)}-{split}"
    return _Target(weights.path, location(parent, made_from), made_from)


def _predict(targets: Sequence[_Target], shards: Artifact, views: Views, compute: Compute, name: str, watch: Watch) -> None:
    outputs = [PredictTarget(weights=target.weights, output=begin(target.path)) for target in targets]
    job = PredictJob(
        targets=outputs,
        shards=shards.path,
        views=views,
        batch_size=BATCH_SIZE,
        device=compute.devices[0],
        num_threads=processors(),
    )
    job_path = outputs[0].output / JOB
    write_synced(job_path, job.model_dump_json(indent=2) + "\n")
    launch([Job("predict", job_path, name)], 1, watch, lambda _: None)
    for target, output in zip(targets, outputs, strict=True):
        publish(target.path, target.recipe, read_counts(output.output))


def _found(path: Path) -> Artifact:
    artifact = find(path, sizes_only=True)
    if artifact is None:
        raise RuntimeError(f"the prediction worker ended without leaving {path}")
    return artifact
