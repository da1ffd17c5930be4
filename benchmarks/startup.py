"""What a worker's imports cost before it works: `python -m benchmarks.startup`, or with names of modules.

Each module is imported by a process of its own, once to warm the page cache and then in rounds. CPU time and peak memory are
those of the whole process, Python's own start included.
"""

import argparse
import subprocess
import sys
from statistics import median
from typing import NamedTuple

from benchmarks.record import ROOT, record

MAX_MILLISECONDS = 500
MAX_MEGABYTES = 130
LIGHT = ("members", "plan", "shard", "close", "checksum")
"""Workers that are held to the limits; several of them are started for each dataset, and one for each processor."""
HEAVY = ("verify", "colours", "train", "predict")

MEASURE = "print(time.process_time(), open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"


class Start(NamedTuple):
    """What one process needed to import a module."""

    milliseconds: float
    """Of CPU time."""
    megabytes: float
    """Peak resident memory."""


def start(module: str) -> Start:
    """Import a module in a new process."""
    command = [sys.executable, "-c", f"import time, {module}; {MEASURE}"]
    seconds, kilobytes = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return Start(float(seconds) * 1e3, int(kilobytes) * 1024 / 1e6)


def measure(module: str, rounds: int) -> None:
    """Record the median CPU time and peak memory of a module's import against the limits."""
    start(module)
    milliseconds, megabytes = map(median, zip(*(start(module) for _ in range(rounds)), strict=True))
    target = 1.0 if module.rpartition(".")[2] in LIGHT else None
    record("startup", f"limit of CPU time against importing {module}", MAX_MILLISECONDS, milliseconds, target, "ms")
    record("startup", f"limit of memory against importing {module}", MAX_MEGABYTES, megabytes, target, "MB")


def main() -> None:
    """Measure and record every module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    workers = [f"tasks.workers.{name}" for name in (*LIGHT, *HEAVY)]
    parser.add_argument("modules", nargs="*", default=workers, help="modules to import; by default most workers")
    parser.add_argument("--rounds", type=int, default=5, help="processes to take the median of")
    arguments = parser.parse_args()
    for module in arguments.modules:
        measure(module, arguments.rounds)


if __name__ == "__main__":
    main()
