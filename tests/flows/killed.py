"""Retrain, and be killed before anything gets a name with these words: `python -m tests.flows.killed WORDS PARAMETERS`."""

import json
import os
import pathlib
import signal
import sys

from flows.retrain import retrain

rename = pathlib.Path.rename


def die(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Rename a path, or be killed before."""
    if sys.argv[1] in str(target):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)


if __name__ == "__main__":
    pathlib.Path.rename = die  # type: ignore[method-assign]
    retrain(**json.loads(sys.argv[2]))
