"""Flows that fail, for tests of how a flow's failure is shown: `python -m tests.flows.planted NAME`."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from base.errors import InputError
from flows.command_line import run
from tasks import launch
from tasks.progress import Display, run_log


@task(cache_policy=NO_CACHE)
def multiply() -> str:
    return str(np.ones((2, 3)) @ np.ones((2, 3)))


@flow
def shape_bug() -> str:
    """Multiply matrices that do not fit together."""
    return multiply()


@task(cache_policy=NO_CACHE)
def read(path: str) -> None:
    raise InputError(f"no {path}; give another")


@flow
def bad_input(path: str = "nowhere") -> None:
    """Read a file that does not exist.

    Args:
        path: Of the file.
    """
    read(path)


@task(cache_policy=NO_CACHE)
def work(*words: str) -> None:
    launch.WORKERS = "tests.tasks"
    with tempfile.TemporaryDirectory() as directory, Display(run_log()) as display:
        unit = launch.Unit("planted", (f"{directory}/job.json", *words), "the work")
        launch.launch([unit], 1, display, lambda unit: None)


@flow
def worker_bug() -> None:
    """Run a worker with a bug."""
    work("bug")


@flow
def worker_refusal() -> None:
    """Run a worker that refuses its input."""
    work("refuse")


@flow
def endless() -> None:
    """Run a worker that never ends."""
    work("hang")


@flow
def stubborn(workspace: Path = Path("made")) -> None:
    """Run a worker that ignores SIGTERM.

    Args:
        workspace: Not used.
    """
    work("ignore")


@flow
def tabulate_on_and_on(weights: list[Path], workspace: Path = Path("made")) -> None:
    """Tabulate the same predictions without an end.

    Args:
        weights: Networks of the demo that have been scored.
        workspace: Has their predictions.
    """
    from flows.presets import DEMO  # seconds, which the other flows need not wait for
    from flows.rows import evaluation_rows, names_of
    from tasks.compute import choose_compute
    from tasks.predict import predict_split
    from tasks.shard import shard_split
    from tasks.tabulate import write_error_rates
    from tasks.train import open_weights
    from tasks.workspace import locked

    networks, rows = [open_weights(path) for path in weights], evaluation_rows("evaluation", names_of(weights, None))
    with locked(workspace) as made_in:
        shards = shard_split(DEMO.target, "val", DEMO.shards, made_in)
        predictions = predict_split(networks, shards, "val", 10, choose_compute("cpu", None), made_in)
        while True:
            write_error_rates(rows, predictions, networks, shards, "val", 10, "demo", made_in)


@flow
def full_disk() -> None:
    """Fail as the operating system does."""
    Path("/dev/full").write_text("a")


@flow
def fine(count: Annotated[int, Field(gt=0)] = 1) -> str:
    """Do nothing.

    Args:
        count: Of nothing.
    """
    return f"{count} results"


if __name__ == "__main__":
    run(globals()[sys.argv.pop(1)])
