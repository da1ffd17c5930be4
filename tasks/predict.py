"""Weights and a split to one predictions file per network. Images are decoded once for all of them."""

from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from prefect import task

from base.errors import InputError
from data_shards.datasets.dataset import Split
from model.evaluation.classifiers import Classifier, import_from
from tasks.artifacts import read_manifest
from tasks.compute import Compute
from tasks.job import Artifact, Weights
from tasks.jobs.predict import PREDICTIONS, PredictJob, Views
from tasks.make import make
from tasks.shard import dataset_name
from tasks.workspace import Workspace


@task(task_run_name="predict {split}, {views} views")
def predict_split(
    networks: Sequence[Weights],
    shards: Artifact,
    split: Split,
    views: Views,
    compute: Compute,
    workspace: Workspace,
    classifier: Classifier | None = None,
    other_classes: bool = False,
) -> list[Artifact]:
    """Predict the split with every network, or find its predictions: `predictions/<weights>/<dataset>-<split>/<key>`.

    `classifier` says how the networks are built and fed if they are not of this project. With `other_classes` those of this
    project may have other classes than the images.
    """
    name, storage = dataset_name(shards), read_manifest(shards.path).settings
    jobs = [
        PredictJob(
            weights=weights,
            shards=shards,
            views=views,
            classifier=classifier,
            factory_code=None if classifier is None else factory_code(classifier.factory),
            factory_folder=None if classifier is None else Path.cwd(),
            other_classes=other_classes or None,
            dataset=name,
            split=split,
            **compute.shared(workspace.cluster),
            about={"dataset": name, "split": split, "shards": shards.digest, "storage": storage},
        )
        for weights in networks
    ]
    return make(jobs, workspace, processes=len(compute.devices), gpus=compute.gpus)


def predictions_file(predictions: Artifact) -> Path:
    """Return the Parquet file of finished predictions."""
    return predictions.path / PREDICTIONS


def factory_code(factory: str) -> str:
    """Return the SHA-256 of the file that holds a factory.

    Raises:
        InputError: there is no such module.
    """
    module = factory.partition(":")[0]
    import_from(Path.cwd())
    try:
        spec = find_spec(module)
    except ImportError as error:
        raise InputError(f"{module} cannot be imported ({error}); is it in this folder or installed?") from error
    if spec is None or spec.origin is None:
        raise InputError(f"there is no module {module}; is it in this folder or installed?")
    return sha256(Path(spec.origin).read_bytes()).hexdigest()
