"""How a worker process begins and ends: it dies with its parent, and bad input ends in one sentence.

Imported by every worker and by `tasks.launch`; needs nothing but Python.
"""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

PARENT_VARIABLE = "ALEXNET_PARENT_PID"
EXIT_BAD_INPUT = 3
ERROR = "error: "
"""What the sentence begins with."""
FULL_BYTES = 1 << 20
"""A disk with less than this left is what made a write fail."""

_PR_SET_PDEATHSIG = 1


def run_worker(work: Callable[[Path], None]) -> None:
    """Do `work` on the job file named on the command line; exit with `EXIT_BAD_INPUT` and a sentence where the input is bad."""
    die_with_parent()
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # our own children are guarded too
    if len(sys.argv) != 2:
        print(f"{ERROR}expected one job file: python -m tasks.workers.{Path(sys.argv[0]).stem} JOB.json")
        sys.exit(EXIT_BAD_INPUT)
    try:
        work(Path(sys.argv[1]))
    except Exception as error:
        sentence = explain(error, Path(sys.argv[1]).parent)
        if sentence is None:
            raise
        print(f"{ERROR}{sentence}", flush=True)
        sys.exit(EXIT_BAD_INPUT)


def explain(error: Exception, directory: Path) -> str | None:
    """Return one sentence for an error that the user can mend, None for one that is a fault of the program."""
    notes = getattr(error, "__notes__", [])  # where it happened, and what is left
    if directory.exists() and shutil.disk_usage(directory).free < FULL_BYTES:
        full = f"the disk that holds {directory} is full; free some space and run again: finished steps are kept"
        return "; ".join([full, *notes])
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return "; ".join([str(error), *notes])
    return None


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it is gone; do nothing where nobody guards it."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it went before we asked
        os.kill(os.getpid(), signal.SIGKILL)
