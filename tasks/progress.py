"""What people see of running work: a live line per job in a terminal, now and then a line in a log, a bar in Prefect's UI.

Every task shows its workers' messages in a `Display`.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self, cast
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_logger, get_run_logger
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Column

from base.progress import Message
from base.progress import Progress as Reporter
from tasks.launch import Unit

SECONDS_BETWEEN_LINES = 10.0
"""In a log, of each job. (ours)"""
SECONDS_BETWEEN_UPDATES = 5.0
"""Of the bar in the UI. (ours)"""

NEVER = float("-inf")

Log = logging.Logger | logging.LoggerAdapter[Any]


class Display:
    """Shows messages of workers: `with Display(log) as display: launch(units, at_once, display, done)`."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.jobs: dict[str, _Job] = {}
        self.artifact = ProgressArtifact(log)
        console = _terminal()
        self.live = None if console is None else _live_lines(console)

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for job in self.jobs.values():
            self._remove_if_silent(job)
        if self.live is not None:
            self.live.stop()

    def __call__(self, unit: Unit, message: Message) -> None:
        """Show a message. An empty one announces a unit that waits for its turn."""
        job = self._job_of(unit)
        if message.done is not None:
            job.add(unit, message)
            self._show(unit.name, job)
        elif message.text:
            self.log.info("%s", message.text if len(self.jobs) == 1 else f"{unit.name}: {message.text}")

    def _job_of(self, unit: Unit) -> "_Job":
        job = self.jobs.get(unit.name)
        if job is None or job.worker != unit.worker:  # a new stage counts from zero
            last_line = NEVER if job is None else job.last_line
            if job is not None:
                self._remove_if_silent(job)
            job = self.jobs[unit.name] = _Job(unit.worker, last_line)
        job.last.setdefault(unit, _Count())
        return job

    def _remove_if_silent(self, job: "_Job") -> None:
        if self.live is not None and job.line is not None and not job.first:
            self.live.remove_task(job.line)

    def _show(self, name: str, job: "_Job") -> None:
        count = job.count
        if self.live is not None:
            if job.line is None:
                job.line = self.live.add_task(name, total=None, numbers=job.describe())
            self.live.update(job.line, total=count.total or None, completed=count.done, numbers=job.describe())
        elif job.is_line_due():
            self.log.info("%s: %s", name, job.describe())
        self.artifact.update(sum(job.count.percent for job in self.jobs.values()) / len(self.jobs), ", ".join(self.jobs))


class Shown(Reporter):
    """Shows what this process itself reports, as that of a unit of work."""

    def __init__(self, display: Display, unit: Unit) -> None:
        super().__init__()
        self.display, self.unit = display, unit

    def _write(self, message: Message) -> None:
        self.display(self.unit, message)


class _Count(NamedTuple):
    """How far a unit or a job is; a total of 0 is unknown."""

    done: float = 0
    total: float = 0
    num_bytes: float = 0

    @property
    def is_finished(self) -> bool:
        return 0 < self.total <= self.done

    @property
    def percent(self) -> float:
        return 100 * min(self.done / self.total, 1) if self.total else 0


class _Job:
    """What the units of one job have reported, added up. Rates count only the work of this run."""

    def __init__(self, worker: str, last_line: float) -> None:
        self.worker = worker
        self.last_line = last_line
        """When a line of this job was logged."""
        self.last: dict[Unit, _Count] = {}
        self.first: dict[Unit, _Count] = {}
        """Where each unit started: a resumed one has done some of its work."""
        self.start = 0.0
        self.latest = Message()
        self.was_finished = False
        self.line: TaskID | None = None
        """In the terminal."""

    def add(self, unit: Unit, message: Message) -> None:
        self.latest = message
        if message.total > 0:  # not `STARTING`
            self.start = self.start or monotonic()
            self.last[unit] = _Count(message.done or 0, message.total, message.values.get("bytes", 0))
            self.first.setdefault(unit, self.last[unit])

    @property
    def count(self) -> _Count:
        """The sum of the units; those that have not reported yet are expected to have as much to do as the others."""
        done, total, num_bytes = map(sum, zip(*self.last.values(), strict=True))
        return _Count(done, total * len(self.last) / max(len(self.first), 1), num_bytes)

    def is_line_due(self) -> bool:
        """Whether to log a line now: `starting` once, numbers every ten seconds and at the end."""
        count, was_finished = self.count, self.was_finished
        self.was_finished = count.is_finished
        wait = 0.0 if count.is_finished else SECONDS_BETWEEN_LINES if count.total else float("inf")
        if was_finished or monotonic() - self.last_line < wait:
            return False
        self.last_line = monotonic()
        return True

    def describe(self) -> str:
        """Return `12%  1,234/9,999 images  56 images/s  7.8 MB/s  3 min left  epoch 3/20`, as far as it is known."""
        count, unit = self.count, self.latest.unit
        if not count.total:
            return f"{self.latest.text} ({self.worker})"
        parts = [f"{int(count.percent):3d}%", amount(count, unit)]
        seconds, done = monotonic() - self.start, count.done - sum(first.done for first in self.first.values())
        if done > 0 and seconds > 0:
            parts.append(rate(done / seconds, unit))
            num_bytes = count.num_bytes - sum(first.num_bytes for first in self.first.values())
            parts += [rate(num_bytes / seconds, "bytes")] if num_bytes > 0 else []
            left = (count.total - count.done) * seconds / done
            parts.append(f"in {duration(seconds)}" if count.is_finished else f"{duration(left)} left")
        return "  ".join([*parts, self.latest.text]).rstrip()


class ProgressArtifact:
    """The bar of a run in the UI, updated at most every five seconds; nothing outside of runs.

    If the server stops answering, the bar is not updated again and the run continues.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.is_on = in_run()
        self.artifact_id: UUID | None = None
        self.last_update = NEVER

    def update(self, percent: float, description: str) -> None:
        """Show how much is done."""
        if self.is_on and (percent == 100 or monotonic() - self.last_update >= SECONDS_BETWEEN_UPDATES):
            self.last_update = monotonic()
            with self._giving_up():
                if self.artifact_id is None:
                    self.artifact_id = cast("UUID", create_progress_artifact(percent, description=description))
                else:
                    update_progress_artifact(self.artifact_id, percent, description=description)

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except (HTTPError, PrefectException):
            self.is_on = False  # each try waits for Prefect's own retries, about a minute
            self.log.warning("could not report progress to the server; the run continues")


def amount(count: _Count, unit: str) -> str:
    """Return what is done and the total, `1,234/9,999 images`."""
    if unit == "bytes":
        return f"{count.done / 1e9:,.2f}/{count.total / 1e9:,.2f} GB"
    return f"{int(count.done):,}/{int(count.total):,} {unit}"


def rate(per_second: float, unit: str) -> str:
    """Return a rate, with two digits if it is below ten."""
    per_second, unit = (per_second / 1e6, "MB") if unit == "bytes" else (per_second, unit)
    return f"{per_second:,.0f} {unit}/s" if per_second >= 10 else f"{per_second:.2g} {unit}/s"


def duration(seconds: float) -> str:
    """Return a time, such as `45 s`, `12 min` or `5 h 10 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def run_log() -> Log:
    """Return the logger of the Prefect run, or a plain one outside of runs."""
    return get_run_logger() if in_run() else get_logger("tasks")


def in_run() -> bool:
    """Whether the caller is in a Prefect run."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def _terminal() -> Console | None:
    """Return the console of Prefect's own log if it is a terminal: lines of two consoles would overwrite each other."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler) and handler.console.is_interactive and handler.console.file.isatty():
            return handler.console
    return None


def _live_lines(console: Console) -> Progress:
    """Return lines with a bar that redraw in place. Styles are colours because Prefect's console has a theme without ours."""
    return Progress(
        SpinnerColumn(style="cyan", finished_text=" "),
        TextColumn("{task.description}", style="default", markup=False),
        BarColumn(
            bar_width=None,
            style="bright_black",
            complete_style="cyan",
            finished_style="green",
            pulse_style="cyan",
            table_column=Column(min_width=12, max_width=24),
        ),
        TextColumn(
            "{task.fields[numbers]}", style="default", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
        ),
        console=console,
        refresh_per_second=4,
        redirect_stdout=sys.stdout.isatty(),
    )
