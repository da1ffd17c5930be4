"""Weights and a split to one predictions file a network. One worker serves all networks, so that images are decoded once."""

from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from prefect import task

from data_shards.datasets.dataset import Split
from model.evaluation.classifiers import Classifier
from tasks.artifacts import JOB, Artifact, Recipe, begin, find, location, publish, read_manifest, recipe, write_synced
from tasks.compute import Compute
from tasks.gpus import held
from tasks.launch import Job, launch
from tasks.shard import dataset_name
from tasks.steps import Watch, processors, read_counts, run_log
from tasks.train import Weights
from tasks.workers.jobs import PREDICTIONS, PredictJob, PredictTarget, Views

PREDICTION_CODE = (
    "model.network",
    "model.evaluation.predict",
    "model.evaluation.predictions",
    "model.evaluation.answers",
    "model.evaluation.error_rates",
    "model.evaluation.classifiers",
    "data_shards.loading",
)


class _Target(NamedTuple):
    """One network's predictions, made or not."""

    weights: Weights
    path: Path
    recipe: Recipe


@task(task_run_name="predict {split}, {views} views")
def predict_split(
    networks: Sequence[Weights],
    shards: Artifact,
    split: Split,
    views: Views,
    compute: Compute,
    workspace: Path,
    classifier: Classifier | None = None,
) -> list[Artifact]:
    """Predict the split with every network that has not done so yet: `predictions/<weights>/<dataset>-<split>/<digest>`.

    `classifier` says how the networks are built and fed where they are not of this project.
    """
    log = run_log()
    config = _config(views, compute, classifier)
    targets = [_target(weights, shards, split, config, workspace) for weights in networks]
    missing = [target for path, target in {target.path: target for target in targets}.items() if find(path) is None]
    log.info("%d of %d networks have not seen %s yet", len(missing), len(targets), split)
    if missing:
        about = _about(shards, split)
        job = PredictJob(
            targets=[_job_target(target, classifier) for target in missing],
            shards=shards.path,
            views=views,
            devices=compute.devices,
            num_threads=max(1, processors() // len(compute.devices)),
            about=about,
        )
        name = f"predictions on {split}"
        with held(compute.gpus):
            _run(job, name, Watch([name], log))
    for target in missing:
        publish(target.path, target.recipe, read_counts(begin(target.path, keep=True)))
    return [_found(target.path) for target in targets]


def predictions_file(predictions: Artifact) -> Path:
    """Return the Parquet file of finished predictions."""
    return predictions.path / PREDICTIONS


def _config(views: Views, compute: Compute, classifier: Classifier | None) -> dict[str, Any]:
    """What a prediction hangs on beside weights and images: of the devices only the kind, for their number does not show."""
    config: dict[str, Any] = {"views": views, "device": compute.kinds[0]}
    if classifier is not None:
        config |= {"classifier": classifier.model_dump(mode="json"), "factory_code": _source_digest(classifier.factory)}
    return config


def _source_digest(factory: str) -> str:
    """SHA-256 of the file that holds a factory.

    Raises:
        ValueError: there is no such module.
    """
    module = factory.partition(":")[0]
    try:
        spec = find_spec(module)
    except ImportError as error:
        raise ValueError(f"{module} cannot be imported ({error}); is it in the working folder or installed?") from error
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {module}; is it in the working folder or installed?")
    return sha256(Path(spec.origin).read_bytes()).hexdigest()


def _target(weights: Weights, shards: Artifact, split: Split, config: dict[str, Any], workspace: Path) -> _Target:
    made_from = recipe({"weights": weights.digest, "shards": shards.digest}, config, *PREDICTION_CODE)
    parent = workspace / "predictions" / weights.digest[:12] / f"{dataset_name(shards)}-{split}"
    return _Target(weights, location(parent, made_from), made_from)


def _job_target(target: _Target, classifier: Classifier | None) -> PredictTarget:
    weights = target.weights
    output = begin(target.path, keep=True)
    return PredictTarget(weights=weights.path, digest=weights.digest, output=output, classifier=classifier)


def _about(shards: Artifact, split: Split) -> dict[str, Any]:
    storage = read_manifest(shards.path).recipe.config
    return {"dataset": dataset_name(shards), "split": split, "shards": shards.digest, "storage": storage}


def _run(job: PredictJob, name: str, watch: Watch) -> None:
    job_path = job.targets[0].output / JOB
    write_synced(job_path, job.model_dump_json(indent=2) + "\n")
    launch([Job("predict", job_path, name)], 1, watch, lambda _: None)


def _found(path: Path) -> Artifact:
    artifact = find(path, sizes_only=True)
    if artifact is None:
        raise RuntimeError(f"the prediction worker ended without leaving {path}")
    return artifact
