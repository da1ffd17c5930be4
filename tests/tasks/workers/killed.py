"""Run a worker that is killed when it finishes its n-th file: `python -m tests.tasks.workers.killed N WORKER ARGUMENTS`.

Auto-encoders save their state after each step, not once a minute.
"""

import os
import pathlib
import runpy
import signal
import sys
import warnings

from model.retrieval import autoencoder

rename = pathlib.Path.rename


def die(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Rename a path, or be killed before."""
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)


if __name__ == "__main__":
    warnings.simplefilter("error")
    left = int(sys.argv[1])
    worker, *sys.argv[1:] = sys.argv[2:]
    pathlib.Path.rename = die  # type: ignore[method-assign]
    *others, _ = autoencoder.train_autoencoder.__defaults__
    autoencoder.train_autoencoder.__defaults__ = (*others, 0.0)
    sys.modules.pop(f"tasks.workers.{worker}", None)  # it is run as a program
    runpy.run_module(f"tasks.workers.{worker}", run_name="__main__")
