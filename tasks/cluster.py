"""A dataset's split to a set of shards, written by the workers of a Dask cluster.

Every worker sees the archives and the workspace under the paths that they have here, and was started in a checkout of this
project. What a worker does is what a process does here: it writes those shards of the plan that are not there yet.
"""

from math import ceil
from pathlib import Path
from typing import Any

from prefect import flow, task, unmapped
from prefect.futures import as_completed
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner

from data_shards.datasets.dataset import Split
from data_shards.datasets.source import Source
from data_shards.planning import ShardConfig
from tasks.artifacts import Artifact
from tasks.progress import Bar
from tasks.shard import PlannedSet, close_split, num_written, plan_split, write_shards
from tasks.steps import run_log

MAX_SLICES = 200
"""Task runs a set; Prefect keeps a record of each."""


def shard_split_on(cluster: str, source: Source, split: Split, config: ShardConfig, workspace: Path) -> Artifact:
    """Write one split as shards on the cluster of the Dask scheduler at `cluster`, or find them.

    Raises:
        ValueError: no server that the workers can reach, prefect-dask is not installed, or the workers cannot import this; and
            what `tasks.shard.plan_split` and `write_shards` raise.
    """
    if PREFECT_API_URL.value() is None:
        raise ValueError(
            "the workers of a cluster report to a Prefect server that they can all reach; start one and set PREFECT_API_URL "
            "here and where the workers are started"
        )
    planned = plan_split(source, split, config, workspace)
    if isinstance(planned, Artifact):
        return planned
    bar = Bar(planned.name, planned.num_samples, num_written(planned), run_log())
    size = ceil(planned.num_shards / MAX_SLICES)
    slices = [range(start, min(start + size, planned.num_shards)) for start in range(0, planned.num_shards, size)]

    @flow(name="write shards", flow_run_name=planned.name, task_runner=_dask(cluster))
    def write_on_cluster() -> None:
        for done in as_completed(write_slice.map(unmapped(planned), slices)):
            bar.add(*done.result())

    try:
        write_on_cluster()
    except RuntimeError as error:
        if "deserialization" in str(error):
            raise ValueError(
                f"the scheduler or a worker of {cluster} cannot import this project; start both in a checkout of it, "
                f"with its Python: python -m dask scheduler, python -m dask worker"
            ) from error
        raise
    return close_split(planned)


@task(task_run_name="shards from {numbers.start}")
def write_slice(planned: PlannedSet, numbers: range) -> tuple[int, int]:
    """Write some shards where this runs; return how many images and bytes were read."""
    done: list[tuple[int, int]] = []
    write_shards(planned, numbers, 1, lambda images, num_bytes: done.append((images, num_bytes)))
    return sum(images for images, _ in done), sum(num_bytes for _, num_bytes in done)


def _dask(address: str) -> TaskRunner[Any]:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise ValueError("a cluster needs the package prefect-dask; pip install the line of requirements.in") from error
    return DaskTaskRunner(address=address)
