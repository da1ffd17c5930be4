"""Heavy work in guarded child processes: `python -m tasks.workers.NAME JOB.json`, its lines passed on.

A child belongs to the process group of the run and is killed by the kernel when the run's process dies, however it dies.
Called from a flow's main thread only: the kernel ties a child to the thread that started it.
"""

import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tasks.artifacts import ROOT
from tasks.workers.guard import ERROR, EXIT_BAD_INPUT, PARENT_VARIABLE

SECONDS_TO_STOP = 25
"""After SIGTERM, before SIGKILL. Training uses them to save how far it is."""

KEEP_FREED_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
"""glibc hands large blocks back to the kernel and fetches them again, zeroed page by page, at every step of training: a
sixth of the step at full size on a CPU."""


class Job(NamedTuple):
    """One child: which worker, what it is to do, and how it is called in the log."""

    worker: str
    config: Path
    """The JSON file that `python -m tasks.workers.<worker>` takes."""
    name: str


class WorkerError(RuntimeError):
    """A child ended in a way that is not the input's fault; the message ends with its last lines."""


def launch(jobs: Sequence[Job], at_once: int, say: Callable[[str, str], None], done: Callable[[Job], None]) -> None:
    """Run all jobs, `at_once` at a time. `say(name, line)` gets every line they print; `done` hears of each that succeeded.

    Where one fails, the others are stopped.

    Raises:
        ValueError: a child refused its input; the message is its own.
        WorkerError: a child crashed or was killed.
    """
    waiting = deque(jobs)
    with selectors.DefaultSelector() as outputs, _stopping() as children:
        while waiting or children:
            while waiting and len(children) < at_once:
                child = _Child(waiting.popleft())
                children.append(child)
                outputs.register(child.output, selectors.EVENT_READ, child)
            for key, _ in outputs.select():
                child = key.data
                for line in child.read_lines():
                    if not line.startswith(ERROR):  # raised below, and said once
                        say(child.job.name, line)
                if child.ended:
                    outputs.unregister(child.output)
                    children.remove(child)
                    child.raise_for_failure()
                    done(child.job)


class _Child:
    """A running worker and what it has printed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tasks.workers.{job.worker}", str(job.config)],
            cwd=ROOT,
            env={**KEEP_FREED_MEMORY, **os.environ, "PYTHONUNBUFFERED": "1", PARENT_VARIABLE: str(os.getpid())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output = self.process.stdout.fileno() if self.process.stdout else -1
        self.unfinished = b""
        self.last_lines: deque[str] = deque(maxlen=20)
        self.ended = False

    def read_lines(self) -> list[str]:
        """Return the whole lines printed since the last call; notice the end."""
        data = os.read(self.output, 65536)
        self.ended = not data
        *whole, self.unfinished = (self.unfinished + data).split(b"\n")
        if self.ended and self.unfinished:
            whole.append(self.unfinished)
        lines = [line.decode(errors="replace") for line in whole]
        self.last_lines.extend(lines)
        return lines

    def raise_for_failure(self) -> None:
        with self.process:  # closes its pipe
            code = self.process.wait()
        refusals = [line.removeprefix(ERROR) for line in self.last_lines if line.startswith(ERROR)]
        if code == EXIT_BAD_INPUT and refusals:
            raise ValueError(refusals[-1])
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise WorkerError(f"{self.job.name} {how}; its last lines were:\n" + "\n".join(self.last_lines))


@contextmanager
def _stopping() -> Iterator[list[_Child]]:
    """Whatever ends the block, no child outlives it."""
    children: list[_Child] = []
    try:
        yield children
    finally:
        for child in children:
            child.process.terminate()
        for child in children:
            with child.process:
                try:
                    child.process.wait(SECONDS_TO_STOP)
                except subprocess.TimeoutExpired:
                    child.process.kill()
