"""A training set's shards to the colours that training subtracts."""

from prefect import task

from tasks.compute import processors
from tasks.job import Artifact
from tasks.jobs.colours import ColoursJob
from tasks.make import make
from tasks.shard import dataset_name
from tasks.workspace import Workspace


@task(task_run_name="colours of {shards.path.parent.parent.name}")
def measure_colours(shards: Artifact, workspace: Workspace) -> Artifact:
    """Measure the colours of a training set, or find them: `colours/<key>`."""
    job = ColoursJob(shards=shards, dataset=dataset_name(shards), num_threads=processors())
    return make([job], workspace)[0]
