"""One step: find an artefact or have a worker make it, and let people watch. The shape that all heavy tasks share."""

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_logger, get_run_logger
from pydantic import BaseModel

from tasks.artifacts import COUNTS, JOB, Artifact, Recipe, begin, find, publish, write_synced
from tasks.launch import Job, launch

Log = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True)
class Step:
    """An artefact, and the work that makes it where it is not there."""

    name: str
    """How people call it in the log."""
    path: Path
    recipe: Recipe
    worker: str
    """The module in `tasks.workers` that does the work."""
    job: BaseModel
    resumable: bool = False
    """Whether the worker goes on from what a killed run left."""
    sizes_only: bool = False
    """Whether a found artefact is too large to be read again each time."""


def make(steps: Sequence[Step], at_once: int = 1, holding: AbstractContextManager[None] | None = None) -> list[Artifact]:
    """Return the steps' artefacts in order, having made those that were not there, if any `holding` something meanwhile.

    Raises:
        ValueError: a damaged artefact, or input that a worker refused.
        tasks.launch.WorkerError: a worker crashed or was killed.
    """
    log = run_log()
    missing = [step for step in steps if find(step.path, step.sizes_only) is None]
    for step in steps:
        if step not in missing:
            log.info("%s: found %s", step.name, step.path)
    if missing:
        with holding or nullcontext():
            jobs = [_begin(step) for step in missing]
            by_name = {step.name: step for step in missing}
            launch(jobs, at_once, Watch(list(by_name), log), lambda job: _publish(by_name[job.name]))
    return [_found(step) for step in steps]


class Watch:
    """Passes workers' lines to the log of the run; their leading per cents feed a progress artifact in the UI."""

    def __init__(self, names: Sequence[str], log: Log) -> None:
        self.log = log
        self.percent = dict.fromkeys(names, 0)
        self.shown = ProgressArtifact(", ".join(names), log)

    def __call__(self, name: str, line: str) -> None:
        """Log a worker's line."""
        self.log.info("%s", line if len(self.percent) == 1 else f"{name}: {line}")
        found = re.match(r" *(\d{1,3})% ", line)
        if found is not None:
            self.percent[name] = int(found[1])
            self.shown.update(sum(self.percent.values()) / len(self.percent))


class ProgressArtifact:
    """How far a run is, in the UI; nothing outside of runs. Where the server goes away it stands still, not the work."""

    def __init__(self, description: str, log: Log, percent: float = 0.0) -> None:
        self.log = log
        self.artifact_id: UUID | None = None
        if in_run():
            with self._standing_still():
                self.artifact_id = cast("UUID", create_progress_artifact(percent, description=description))

    def update(self, percent: float) -> None:
        """Show how much is done."""
        if self.artifact_id is not None:
            with self._standing_still():
                update_progress_artifact(self.artifact_id, percent)

    @contextmanager
    def _standing_still(self) -> Iterator[None]:
        try:
            yield
        except (HTTPError, PrefectException) as error:
            self.artifact_id = None  # each try waits for Prefect's own repetitions, a minute or so
            self.log.warning(
                "the server does not take progress (%s); the bar in the UI stands still, the work goes on", type(error).__name__
            )


def run_log() -> Log:
    """Return the logger of the Prefect run, or a plain one outside of runs."""
    return get_run_logger() if in_run() else get_logger("tasks")


def in_run() -> bool:
    """Whether this is called in a run of Prefect's, which artifacts of the UI belong to."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def read_counts(partial: Path) -> dict[str, int]:
    """Return the counts that a worker left beside its result."""
    counts: dict[str, int] = json.loads((partial / COUNTS).read_text())
    return counts


def _begin(step: Step) -> Job:
    partial = begin(step.path, keep=step.resumable)
    write_synced(partial / JOB, step.job.model_dump_json(indent=2) + "\n")
    return Job(step.worker, partial / JOB, step.name)


def _publish(step: Step) -> None:
    publish(step.path, step.recipe, read_counts(begin(step.path, keep=True)))


def _found(step: Step) -> Artifact:
    artifact = find(step.path, sizes_only=True)
    if artifact is None:
        raise RuntimeError(f"{step.name} ended without leaving {step.path}")
    return artifact
