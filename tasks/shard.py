"""A dataset's split to a set of shards, and a training set's shards to its colours."""

from pathlib import Path

from prefect import task

from data_shards.datasets.dataset import Split
from data_shards.datasets.source import Source
from data_shards.writing import ShardConfig
from tasks.artifacts import Artifact, location, recipe
from tasks.steps import Step, make, processors
from tasks.workers.jobs import ColoursJob, ShardJob


@task(task_run_name="shard {source.kind} {split}")
def shard_split(source: Source, split: Split, config: ShardConfig, workspace: Path) -> Artifact:
    """Write one split as shards, or find them: `shards/<dataset>/<split>/<digest>`."""
    unpack_dir = workspace / "sources"
    dataset = source.open(unpack_dir)
    made_from = recipe(
        {"dataset": dataset.identity(split)}, config, "data_shards.datasets", "data_shards.images", "data_shards.writing"
    )
    job = ShardJob(source=source, split=split, config=config, unpack_dir=unpack_dir, num_workers=processors())
    path = location(workspace / "shards" / dataset.name / split, made_from)
    return make([Step(f"shards of {dataset.name} {split}", path, made_from, "shard", job, sizes_only=True)])[0]


@task(task_run_name="colours of {shards.path.parent.parent.name}")
def measure_colours(shards: Artifact, workspace: Path) -> Artifact:
    """Measure the colours of a training set, or find them: `colours/<digest>`."""
    made_from = recipe({"shards": shards.digest}, {}, "data_shards.colours", "data_shards.images")
    job = ColoursJob(shards=shards.path, num_threads=processors())
    path = location(workspace / "colours", made_from)
    return make([Step(f"colours of {dataset_name(shards)}", path, made_from, "colours", job)])[0]


def dataset_name(shards: Artifact) -> str:
    """Return the dataset of a set of shards, as its place in the workspace says: `shards/<dataset>/<split>/<digest>`."""
    return shards.path.parent.parent.name
