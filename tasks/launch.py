"""Run workers in child processes, `python -m tasks.workers tasks.workers.NAME ARGUMENTS`, and pass on what they report.

A child is in the process group of the run, and the kernel kills it when the run's process dies. Call `launch` from the
main thread of a flow only: the kernel ties a child to the thread that started it.
"""

import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL, Signals
from typing import NamedTuple, Protocol

from base.errors import InputError
from base.progress import Message, parse
from tasks.code import ROOT
from tasks.workers.guard import EXIT_BAD_INPUT, PARENT_VARIABLE

STARTER = WORKERS = "tasks.workers"
SECONDS_TO_STOP = 6
"""From SIGTERM to SIGKILL. Training uses them to save its state; if they do not suffice, the last checkpoint stands."""
NUM_LAST_LINES = 20

ENVIRONMENT = {
    # Without these, glibc returns large blocks to the kernel and fetches them again, zeroed, at every step of training:
    # a sixth of a step at full size on a CPU.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "PYTHONFAULTHANDLER": "1",  # a traceback on SIGSEGV
    "PYTHONUNBUFFERED": "1",
}
ENVIRONMENT_OF = {"predict": {"MALLOC_ARENA_MAX": "1"}}
"""For single workers. Prediction in several threads is several times faster if they share one heap."""


def environment_of(worker: str) -> dict[str, str]:
    """Return the variables that a worker runs with if the user has not set them."""
    return ENVIRONMENT | ENVIRONMENT_OF.get(worker, {})


CRASH = ("Traceback (most recent call last)", "Fatal Python error")
"""How Python begins to describe a crash."""


class Unit(NamedTuple):
    """One worker process."""

    worker: str
    """The module in `tasks.workers`."""
    arguments: tuple[str, ...]
    """Job files, then perhaps a share such as `3/8`."""
    name: str
    """Of the job, for the log and the display. The units of one job have the same name."""


class Runner(Protocol):
    """What runs units of work: processes of this machine (`launch`), or the workers of a cluster."""

    def __call__(
        self,
        units: Sequence[Unit],
        at_once: int,
        heard: Callable[[Unit, Message], None],
        done: Callable[[Unit], None],
    ) -> None:
        """Run all units, `at_once` at a time."""


class WorkerError(RuntimeError):
    """A worker crashed, which is a bug. The message says how it died and ends with its last lines."""


def launch(units: Sequence[Unit], at_once: int, heard: Callable[[Unit, Message], None], done: Callable[[Unit], None]) -> None:
    """Run all units in order, `at_once` at a time; if one fails, stop the others.

    `heard` gets an empty message for each unit first, then `STARTING` when a unit starts, then each line that it writes.
    `done` is called with each unit that succeeds.

    Raises:
        InputError: the message with which a worker refused its input.
        WorkerError: a worker crashed or was killed.
    """
    for unit in units:
        heard(unit, Message())
    waiting = deque(units)
    with selectors.DefaultSelector() as outputs, _stopping() as children:
        while waiting or children:
            while waiting and len(children) < at_once:
                child = _Child(waiting.popleft())
                children.append(child)
                outputs.register(child.output, selectors.EVENT_READ, child)
                heard(child.unit, STARTING)
            for key, _ in outputs.select():
                child = key.data
                for message in child.read():
                    heard(child.unit, message)
                if child.ended:
                    outputs.unregister(child.output)
                    children.remove(child)
                    child.raise_for_failure()
                    for line in child.crash:  # printed, but survived
                        heard(child.unit, Message(text=line))
                    done(child.unit)


STARTING = Message(done=0, text="starting")
"""A report of nothing yet, of an unknown total."""


class _Child:
    """A running worker and what it has written."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.oom_kills = count_oom_kills()
        self.process = subprocess.Popen(
            [sys.executable, "-m", STARTER, f"{WORKERS}.{unit.worker}", *unit.arguments],
            cwd=ROOT,
            env={**environment_of(unit.worker), **os.environ, PARENT_VARIABLE: str(os.getpid())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output = self.process.stdout.fileno() if self.process.stdout else -1
        self.unfinished = b""
        self.last_lines: deque[str] = deque(maxlen=NUM_LAST_LINES)
        self.crash: list[str] = []
        """All lines from the first traceback on. They are part of the error, so they are not passed on."""
        self.refusal: str | None = None
        self.ended = False

    def read(self) -> list[Message]:
        """Return what the worker has written since the last call; set `ended` at the end of its output."""
        data = os.read(self.output, 65536)
        self.ended = not data
        *whole, self.unfinished = (self.unfinished + data).split(b"\n")
        if self.ended and self.unfinished:
            whole.append(self.unfinished)
        messages = [parse(line.decode(errors="replace")) for line in whole]
        return [message for message in messages if self._is_to_pass_on(message)]

    def _is_to_pass_on(self, message: Message) -> bool:
        if message.error:
            self.refusal = self.refusal or message.text  # replicas that lose the one that refused say so later
            return False
        if message.done is not None:
            return True
        if self.crash or message.text.startswith(CRASH):
            self.crash.append(message.text)
            return False
        self.last_lines.append(message.text)
        return True

    def raise_for_failure(self) -> None:
        with self.process:  # closes its pipe
            code = self.process.wait()
        if code == EXIT_BAD_INPUT and self.refusal is not None:
            raise InputError(self.refusal)
        if code:
            how = how_it_died(code, count_oom_kills() > self.oom_kills)
            lines = "\n".join(self.crash or self.last_lines) or "(none)"
            raise WorkerError(f"{self.unit.name}: the worker {self.unit.worker!r} {how}; its last lines:\n{lines}")


def how_it_died(code: int, out_of_memory: bool) -> str:
    """Describe the return code of a process, a negative signal number if one killed it."""
    how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    victim = "it" if code == -SIGKILL else "a process"
    return f"{how} (the kernel killed {victim} because memory ran out)" if out_of_memory else how


def count_oom_kills() -> int:
    """Return how often the kernel has killed a process for lack of memory, on this machine and in this cgroup."""
    files = [Path("/proc/vmstat")]
    with suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        files += [Path(f"/sys/fs/cgroup{line.removeprefix('0::')}/memory.events") for line in lines if line.startswith("0::")]
    kills = 0
    for file in files:
        with suppress(OSError):
            kills += sum(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill "))
    return kills


@contextmanager
def _stopping() -> Iterator[list[_Child]]:
    """Terminate all children on exit."""
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
