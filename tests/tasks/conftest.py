"""What the operating system says of the processes that a test started, and machines that it can start them on."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tasks.code import ROOT
from tests.forked import LAUNCHED

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


@pytest.fixture(scope="module")
def forked_workers(forking: dict[str, str]) -> Iterator[None]:
    """Fork the workers that the tests of a module launch."""
    del forking
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.launch.subprocess", LAUNCHED)
        yield


class Machines:
    """Machines on one network and one disk: network namespaces of this one, each with a name of its own."""

    def __init__(self, *names: str) -> None:
        self.number = {name: number for number, name in enumerate(names, start=1)}

    def __enter__(self) -> "Machines":
        for name, number in self.number.items():
            self.ip("netns", "add", self.space(name))
            self.inside(name, "link", "set", "lo", "up")
            device = "bridge"
            if number == 1:  # the first one is the switch too
                self.inside(name, "link", "add", device, "type", "bridge")
            else:
                device = "eth0"
                switch = self.space(next(iter(self.number)))
                self.ip("link", "add", f"to-{name}", "netns", switch, "type", "veth", "peer", device, "netns", self.space(name))
                self.plug(name)
            self.inside(name, "address", "add", f"{self.address(name)}/24", "dev", device)
            self.inside(name, "link", "set", device, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.number:
            subprocess.run(["ip", "netns", "del", self.space(name)], capture_output=True, check=False)

    def space(self, name: str) -> str:
        """Return the name of a namespace that no other run of the tests has."""
        return f"test-{os.getpid()}-{name}"

    def address(self, name: str) -> str:
        return f"10.77.0.{self.number[name]}"

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], capture_output=True, check=True)

    def inside(self, name: str, *arguments: str) -> None:
        self.ip("-n", self.space(name), *arguments)

    def plug(self, name: str, state: str = "up") -> None:
        self.inside(next(iter(self.number)), "link", "set", f"to-{name}", "master", "bridge", state)

    def unplug(self, name: str) -> None:
        self.plug(name, "down")

    def start(self, name: str, *arguments: str, log: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        """Run Python with some arguments on a machine; what it says goes to a pipe or into a file."""
        command = ["ip", "netns", "exec", self.space(name), "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name]
        with nullcontext(subprocess.PIPE) if log is None else log.open("ab") as out:
            return subprocess.Popen(
                [*command, sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Return three machines: `head`, `one` and `two`."""
    probe = ["ip", "netns", "add", f"test-{os.getpid()}"]
    if shutil.which("ip") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip(
            "machines as network namespaces need iproute2 and the right to make them, which this machine does not grant"
        )
    subprocess.run(["ip", "netns", "del", probe[-1]], check=True)
    with Machines("head", "one", "two") as made:
        yield made
