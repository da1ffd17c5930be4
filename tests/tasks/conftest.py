"""What the operating system says of the processes that a test started."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

NAMESPACE = ["unshare", "--mount", "--map-root-user"]
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


@pytest.fixture
def in_small_disk(tmp_path: Path) -> list[str]:
    """Return the beginning of a command that runs in `tmp_path / "disk"`, on a disk of its own that nobody else sees."""
    (tmp_path / "disk").mkdir()
    mount = 'mount -t tmpfs -o size=2m tmpfs "$0" && cp "$0"/../job.json "$0"/../plan.arrow "$0" && exec "$@"'
    begin = [*NAMESPACE, "sh", "-c", mount, str(tmp_path / "disk")]
    for name in ("job.json", "plan.arrow"):
        (tmp_path / name).touch()
    if shutil.which("unshare") is None or subprocess.run([*begin, "true"], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs unshare and the right to use it, which this machine does not grant")
    return begin
