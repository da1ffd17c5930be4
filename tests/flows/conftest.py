"""Flows as programs that report to the server of the tests: forked from a process that has imported all of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tasks.code import ROOT

FORK = """
import gc, json, os, runpy, signal, sys, threading
from importlib import import_module
from pathlib import Path

flows = [f"flows.{file.stem}" for file in Path("flows").glob("[a-z]*.py")]
for name in flows:
    import_module(name)
for name in flows:
    del sys.modules[name]  # each is run as a program
gc.freeze()  # or every child copies and collects all of it at its end, which takes over a second
assert threading.active_count() == 1, "a process with threads cannot be forked"
for line in sys.stdin:
    module, words, output = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm(120)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        sys.argv[1:] = words
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def program(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Return a function that runs `python -m MODULE WORDS` in the checkout and returns its exit code and what it wrote."""
    folder = tmp_path_factory.mktemp("programs")
    environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": prefect_server}
    command = [sys.executable, "-c", FORK]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(module: str, *words: object) -> subprocess.CompletedProcess[str]:
            arguments = [module, *map(str, words)]
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps([module, arguments[1:], str(folder / "said.txt")]) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            return subprocess.CompletedProcess(arguments, code, (folder / "said.txt").read_text())

        yield run


SHORT = ("--epochs", "2", "--num-networks", "2", "--num-pretrained", "0", "--no-report")
AT_CHANCE = "no more than guessing among 20 classes"
"""After one epoch a network may be; the flow warns of it."""


def start_reproduce(workspace: Path, options: Sequence[str] = SHORT, **variables: str) -> subprocess.Popen[bytes]:
    """Start the program in a process group of its own, with Prefect's files in the workspace too; it prints to `said.txt`."""
    command = [sys.executable, "-m", "flows.reproduce", "--workspace", str(workspace), *options]
    environment = dict(os.environ, PREFECT_HOME=str(workspace / "prefect"), PYTHONUNBUFFERED="1", **variables)
    with open(workspace / "said.txt", "w") as said:
        return subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)


def finish_reproduce(workspace: Path, options: Sequence[str] = SHORT, **variables: str) -> str:
    process = start_reproduce(workspace, options, **variables)
    code = process.wait(timeout=900)
    said = (workspace / "said.txt").read_text()
    assert code == 0, said
    assert "Traceback" not in said
    warnings = [line for line in said.splitlines() if "WARNING" in line or "Warning" in line]
    assert [line for line in warnings if AT_CHANCE not in line] == []
    return said


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[bytes]]:
    """Return `start_reproduce`."""
    return start_reproduce


@pytest.fixture
def finish() -> Callable[..., str]:
    """Return a function that waits for the program and returns what it said."""
    return finish_reproduce


@pytest.fixture(scope="session")
def server(prefect_server: str) -> dict[str, str]:
    """Return what a program needs to report to the server of the tests instead of one of its own."""
    return {"PREFECT_API_URL": prefect_server}


@pytest.fixture(scope="session")
def reproduced(server: dict[str, str], make_once: Callable[..., Path]) -> tuple[Path, str]:
    """Return the workspace of a whole table of two networks, to be copied before anything is changed; and what was said."""
    workspace = make_once("reproduced", lambda folder: finish_reproduce(folder, **server))
    return workspace, (workspace / "said.txt").read_text()
