"""Units of work on the workers of a Dask cluster instead of processes of this machine.

Every worker sees the archives and the workspace under the paths that they have here, and was started in a checkout of this
project. A worker of the cluster starts the same processes that this machine would.
"""

from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow, task
from prefect.futures import as_completed
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner

from base.errors import InputError
from base.progress import Message
from tasks.launch import Unit, launch
from tasks.make import Runner

MAX_SHARES = 200
"""Task runs per stage; Prefect keeps a record of each."""


def cluster_runner(address: str) -> Runner:
    """Return what runs units on the cluster of the Dask scheduler at `address`.

    Raises:
        InputError: no server that the workers can reach, or prefect-dask is not installed.
    """
    if PREFECT_API_URL.value() is None:
        raise InputError(
            "the workers of a cluster report to a Prefect server that they can all reach; start one and set PREFECT_API_URL "
            "here and where the workers are started"
        )
    runner = _dask(address)

    def run(units: Sequence[Unit], at_once: int, heard: Callable[[Unit, Message], None], done: Callable[[Unit], None]) -> None:
        if len(units) == 1:  # planning and closing are no work for a cluster
            launch(units, at_once, heard, done)
            return
        _run_on_cluster(units, address, runner, heard, done)

    return run


def _run_on_cluster(
    units: Sequence[Unit],
    address: str,
    runner: TaskRunner[Any],
    heard: Callable[[Unit, Message], None],
    done: Callable[[Unit], None],
) -> None:
    @flow(name="units of work", flow_run_name=units[0].name, task_runner=runner)
    def run_units() -> None:
        for future in as_completed(run_unit.map(units)):
            unit, last = future.result()
            heard(unit, last)
            done(unit)

    try:
        run_units()
    except RuntimeError as error:
        if "deserialization" in str(error):
            raise InputError(
                f"the scheduler or a worker of {address} cannot import this project; start both in a checkout of it, "
                f"with its Python: python -m dask scheduler, python -m dask worker"
            ) from error
        raise


@task(task_run_name="{unit.name}, {unit.arguments}")
def run_unit(unit: Unit) -> tuple[Unit, Message]:
    """Do one unit of work on this machine; return its last report."""
    reports = [Message()]
    launch([unit], 1, lambda _, message: reports.append(message) if message.done is not None else None, lambda _: None)
    return unit, reports[-1]


def _dask(address: str) -> TaskRunner[Any]:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise InputError(
            "a cluster needs prefect-dask; run .venv/bin/pip install -r requirements-dev.txt in the checkout"
        ) from error
    return DaskTaskRunner(address=address)
