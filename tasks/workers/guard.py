"""How a worker process starts and ends: it dies with its parent, and bad input ends in one sentence.

Every worker and `tasks.launch` import it.
"""

import ctypes
import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from base.errors import sentence_of
from base.progress import Progress

PARENT_VARIABLE = "ALEXNET_PARENT_PID"
EXIT_BAD_INPUT = 3
FULL_BYTES = 1 << 20
"""A disk with less free space than this counts as full."""

_PR_SET_PDEATHSIG = 1


def guarded(work: Callable[[], None]) -> None:
    """Do the work of a worker; report an error that the user can correct and exit with `EXIT_BAD_INPUT`."""
    die_with_parent()
    gc.freeze()  # what was imported stays
    gc.enable()
    if PARENT_VARIABLE in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent stops this one
    os.environ[PARENT_VARIABLE] = str(os.getpid())  # for the worker's own children
    try:
        work()
    except Exception as error:
        sentence = _full_disk(error) or sentence_of(error)
        if sentence is None:
            raise
        Progress().say(sentence, error=True)
        sys.exit(EXIT_BAD_INPUT)


def _full_disk(error: Exception) -> str | None:
    """Return a sentence if the disk of one of the job files, next to which a worker writes, is full.

    Not every library raises an `OSError` then.
    """
    for directory in {Path(argument).parent for argument in sys.argv[1:]}:
        if directory.exists() and shutil.disk_usage(directory).free < FULL_BYTES:
            full = f"the disk that holds {directory} is full; free some space and run again: finished steps are kept"
            return "; ".join([full, *getattr(error, "__notes__", [])])
    return None


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies. Do nothing if `launch` did not start it."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # the parent died before the call
        os.kill(os.getpid(), signal.SIGKILL)
