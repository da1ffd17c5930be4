"""Flows as programs that report to the server of the tests, with real workers or with forked ones."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.forked import LAUNCHED
from tests.sharing import Program


@pytest.fixture
def forked_workers(forking: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the workers of flows that run in this process."""
    monkeypatch.setattr("tasks.launch.subprocess", LAUNCHED)


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
    return checked(process.wait(timeout=900), (workspace / "said.txt").read_text())


def checked(code: int, said: str) -> str:
    """Return what a program said that has ended well, without warnings."""
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


@pytest.fixture
def finish_forked(program: Program) -> Callable[..., str]:
    """Return a function that does the same with a program that is forked, with its workers."""

    def finish(workspace: Path, options: Sequence[str] = SHORT) -> str:
        done = program("flows.reproduce", "--workspace", workspace, *options)
        return checked(done.returncode, done.stdout)

    return finish


@pytest.fixture(scope="session")
def server(prefect_server: str) -> dict[str, str]:
    """Return what a program needs to report to the server of the tests instead of one of its own."""
    return {"PREFECT_API_URL": prefect_server}


@pytest.fixture(scope="session")
def reproduced(server: dict[str, str], make_once: Callable[..., Path]) -> tuple[Path, str]:
    """Return the workspace of a whole table of two networks, to be copied before anything is changed; and what was said."""
    workspace = make_once("reproduced", lambda folder: finish_reproduce(folder, **server))
    return workspace, (workspace / "said.txt").read_text()
