"""Processes that begin with their imports done: each is forked from one that has imported all flows and workers.

`python -m` imports for seconds before it begins, and most tests start many processes. What runs is the same code in a process
of its own. How a process starts, is interrupted or dies is tested with `python -m`.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Self

from tasks import launch
from tasks.code import ROOT
from tasks.workers.guard import PARENT_VARIABLE

MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for folder in ("flows", "tasks/workers")
    for file in sorted((ROOT / folder).glob("[a-z]*.py"))
]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*MODULES, __name__])


def start(command: Sequence[str], output: Connection | Path, variables: Mapping[str, str], cwd: Path = ROOT) -> BaseProcess:
    """Start `python -m MODULE WORDS` in a folder, with these and no other environment variables."""
    python, minus_m, module, *words = command
    assert (python, minus_m) == (sys.executable, "-m")
    if module == launch.STARTER:  # what it imports is there
        module, *words = words
    process = CONTEXT.Process(target=_run, args=(module, words, output, dict(variables), cwd))
    process.start()
    return process


def _run(module: str, words: list[str], output: Connection | Path, variables: Mapping[str, str], cwd: Path) -> None:
    """Do what Python does with `-m MODULE WORDS`, and at its end, but leave the memory to the kernel."""
    file = output.fileno() if isinstance(output, Connection) else os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    if PARENT_VARIABLE in variables:
        os.environ[PARENT_VARIABLE] = str(os.getppid())  # a worker
    else:
        vars(launch)["subprocess"] = LAUNCHED
        vars(forkserver._forkserver)["ensure_running"] = lambda: None  # it does; this process would start another one
    sys.argv[1:] = words
    sys.modules.pop(module, None)  # it is run as a program
    gc.freeze()  # or the process copies what it shares with the others, a third of a second
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()


class Worker:
    """A process with what `tasks.launch` uses of `subprocess.Popen`."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], **_: object) -> None:
        self.stdout, output = CONTEXT.Pipe(duplex=False)
        with output:
            self.process = start(command, output, env)

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout or 0)
        return self.process.exitcode

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.process.join()


LAUNCHED = SimpleNamespace(**{**vars(subprocess), "Popen": Worker})
"""Takes the place of `subprocess` in `tasks.launch`, in all programs that are forked."""
