"""Check and measure everything that only a machine with a GPU can, in at most 8 minutes: `make gpu`.

Or, from the root: `python -m benchmarks.gpu`. It needs what training needs of `requirements.txt`, and no data. It ends with a
table and a JSON file, which is written again after each check. A check that fails, hangs or kills its process is a line of the
table; the others run on. Ctrl-C ends it: what was measured until then is kept. Without a GPU the same checks run on the CPU at
a small size, to test this program.
"""

import argparse
import os
import signal
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from json import dumps
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from platform import python_version
from time import monotonic
from typing import Any, Literal

import torch

from base.files import write_text
from benchmarks.gpu_checks import CHECKS
from benchmarks.gpu_checks.bench import Bench, NotRunError, release
from benchmarks.record import RESULTS, machine
from tasks.code import code_version
from tasks.launch import ENVIRONMENT
from tasks.workers.guard import PARENT_VARIABLE, die_with_parent

SECONDS = 460.0
"""For all checks together: with the start of Python and the last check's end, less than 8 minutes."""
SECONDS_TO_START = 180.0
"""That a process has to import torch and DALI."""
PATIENCE = 5
"""How many times as long a check may take without a GPU: a machine that runs tests may be busy."""

QUIET = {"PYTHONWARNINGS": "ignore:resource_tracker"}
"""What a killed process had shared with its own children is removed without a word."""

EXIT_INTERRUPTED = 128 + signal.SIGINT

READY = "ready"
"""What a process sends when it has imported everything."""

Verdict = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class Line:
    """What became of one check."""

    check: str
    verdict: Verdict
    said: str
    seconds: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    traceback: str | None = None


def check(name: str, bench: Bench) -> Line:
    """Run one check; whatever it raises becomes its line."""
    start = monotonic()
    try:
        found = CHECKS[name].run(bench)
        verdict: Verdict = "passed" if found.passed else "failed"
        return Line(name, verdict, found.said, monotonic() - start, found.values)
    except NotRunError as reason:
        return Line(name, "not run", str(reason), monotonic() - start)
    except Exception as error:  # any error is what this program looks for
        said = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        return Line(name, "failed", said, monotonic() - start, traceback=traceback.format_exc())
    finally:
        release()


def _child(bench: Bench, pipe: Connection) -> None:
    """Run each check whose name arrives, and send its line."""
    die_with_parent()
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # for the processes that checks start
    torch.set_num_threads(bench.num_threads)
    pipe.send(READY)
    while True:
        pipe.send(check(pipe.recv(), bench))


@contextmanager
def _started(bench: Bench) -> Iterator[Connection | None]:
    """Start a process that runs checks, or return None if it does not start; kill it in the end."""
    context = get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=_child, args=(bench, other))
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process inherits it: Ctrl-C reaches both, and this one ends that
    process.start()
    other.close()  # so that the death of the process is the end of the pipe
    try:
        signal.signal(signal.SIGINT, ours)
        yield pipe if _received(pipe, SECONDS_TO_START) == READY else None
    finally:
        process.kill()
        process.join()


def lines(names: list[str], bench: Bench, seconds: float) -> Iterator[Line]:
    """Yield the line of each check. After one that did not pass, the others run in a new process."""
    waiting, end = deque(names), monotonic() + seconds
    while waiting:
        with _started(bench) as pipe:
            passed = True
            while waiting and passed:
                name = waiting.popleft()
                line = _line(name, pipe, CHECKS[name].seconds * (1 if bench.num_gpus else PATIENCE), end - monotonic())
                yield line
                passed = line.verdict != "failed"


def _line(name: str, pipe: Connection | None, seconds: float, left: float) -> Line:
    if left <= 0:
        return Line(name, "not run", "no time was left")
    if pipe is None:
        return Line(name, "failed", "no process could be started for it")
    seconds, start = min(seconds, left), monotonic()
    with suppress(OSError):  # a dead process is noticed below
        pipe.send(name)
    line = _received(pipe, seconds)
    if isinstance(line, Line):
        return line
    took = monotonic() - start
    return Line(name, "failed", "its process died" if took < seconds else f"it had not ended after {seconds:.0f} s", took)


def _received(pipe: Connection, seconds: float) -> Any:
    """Return what arrives in time; None if nothing does, or if the process has died."""
    try:
        return pipe.recv() if pipe.poll(seconds) else None
    except (EOFError, OSError):
        return None


def described(num_gpus: int) -> dict[str, Any]:
    """Return what the results depend on: machine, versions, commit, time."""
    driver = Path("/proc/driver/nvidia/version")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code_version(),
        "machine": machine(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(num_gpus)],
        "driver": driver.read_text(encoding="utf-8").splitlines()[0] if driver.exists() else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "versions": {"python": python_version(), **{name: _version(name) for name in PACKAGES}},
    }


PACKAGES = ("torch", "triton", "nvidia-dali-cuda130", "numpy")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Run the checks, print the table, write the file; exit with 1 if a check failed, with 130 after Ctrl-C."""
    arguments = _arguments()
    num_gpus = torch.cuda.device_count()
    about = described(num_gpus)
    if not num_gpus:
        print("This machine has no GPU that torch can use: the checks run on the CPU at a small size, to test this program.")
    first = about["gpus"][0].lower().replace(" ", "-") if num_gpus else "none"
    path: Path = arguments.out or RESULTS / f"gpu-{first}.json"
    os.environ.update({**ENVIRONMENT, **QUIET, **os.environ, PARENT_VARIABLE: str(os.getpid())})
    names, done = arguments.only or list(CHECKS), list[Line]()
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-gpu-", ignore_cleanup_errors=True) as directory,
        suppress(KeyboardInterrupt),
    ):
        # On a busy CPU, threads wait for each other: one is soonest done with small networks.
        bench = Bench(num_gpus, len(os.sched_getaffinity(0)) if num_gpus else 1, Path(directory))
        with closing(lines(names, bench, arguments.seconds)) as measured:
            for line in measured:
                done.append(line)
                _write(path, about, done)
                print(f"{line.check}: {line.verdict} after {line.seconds:.1f} s", flush=True)
    _write(path, about, done)  # Ctrl-C may have come before the last line was written
    print("\n" + "\n".join(f"{line.verdict:8} {line.check:24} {line.said}" for line in done))
    if len(done) < len(names):
        print(f"\ninterrupted: {len(done)} of {len(names)} checks had ended; their lines are in {path}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    print(f"\nWritten to {path}. Commit it if this is a GPU's." if num_gpus else f"\nWritten to {path}.")
    sys.exit(any(line.verdict == "failed" for line in done))


def _write(path: Path, about: dict[str, Any], done: list[Line]) -> None:
    write_text(path, dumps({**about, "lines": [asdict(line) for line in done]}, indent=1, ensure_ascii=False) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), metavar="CHECK", help=f"some of: {', '.join(CHECKS)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all checks together")
    parser.add_argument("--out", type=Path, help="the JSON file; by default benchmarks/results/gpu-NAME.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
