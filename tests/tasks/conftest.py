"""What the operating system says of the processes that a test started."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Processes = Callable[[Path], dict[int, str]]


def command_lines(marker: Path) -> dict[int, str]:
    """Return the command line of each living process, this one apart, that names a path below `marker`."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if f"{marker}/" in command:  # a dead process that nobody has waited for has no command line
            found[int(entry.name)] = command
    return found


@pytest.fixture
def processes() -> Processes:
    """Return a function that lists the living processes whose command line names a path below a folder."""
    return command_lines


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool], str], None]:
    """Return a function that waits until something is so, and fails with a sentence where it is not after 10 seconds."""

    def wait(is_so: Callable[[], bool], sentence: str) -> None:
        deadline = time.monotonic() + 10
        while not is_so():
            if time.monotonic() > deadline:
                pytest.fail(sentence)
            time.sleep(0.02)

    return wait
