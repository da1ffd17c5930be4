"""A worker for tests of what runs workers: `python -m tests.tasks.planted JOB WORD ...` calls the function of that name."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from base.errors import InputError
from base.progress import Progress
from tasks.workers.guard import guarded


def count(job: Path) -> None:
    progress = Progress()
    progress.say("begins")
    progress.report(4, 4, "images", bytes=2e6)


def count_slowly(job: Path) -> None:
    progress = Progress()
    for number in range(5):
        progress.report(number, 5, "images")
        time.sleep(0.3)


def hang(job: Path) -> None:
    job.with_name("started").touch()
    Progress().report(0, 1, "images")
    time.sleep(600)


def ignore(job: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang(job)


def hang_with_child(job: Path) -> None:
    with subprocess.Popen([sys.executable, "-m", "tests.tasks.planted", str(job), "hang"]):
        time.sleep(600)


def refuse(job: Path) -> None:
    error = InputError(f"{job} is wrong")
    error.add_note("it was Tuesday")
    raise error


def bug(job: Path) -> None:
    print("a warning")
    print([][0])


def deep_bug(job: Path, depth: str = "30") -> None:
    if depth == "0":
        raise ZeroDivisionError("at the bottom")
    deeper(job, str(int(depth) - 1))


def deeper(job: Path, depth: str) -> None:
    deep_bug(job, depth)


def forgiven_bug(job: Path) -> None:
    print("Traceback (most recent call last):\nValueError: forgiven", flush=True)
    Progress().report(1, 1, "images")


def segfault(job: Path) -> None:
    ctypes.string_at(0)


def leave(job: Path, code: str) -> None:
    print("\n".join(f"line {number}" for number in range(30)), flush=True)
    os._exit(int(code))


def odd_bytes(job: Path) -> None:
    for part in (b"caf\xff\nhalf a li", b"ne"):
        sys.stdout.buffer.write(part)
        sys.stdout.flush()
        time.sleep(0.1)


def show(job: Path, *variables: str) -> None:
    print("\n".join(f"{name}={os.environ.get(name)}" for name in variables))


def fill(job: Path, how: str) -> None:
    """Write until the disk is full, and fail as `open` does or as a library that hides the reason."""
    try:
        with job.with_name("large").open("wb") as file:
            for _ in range(8):
                file.write(bytes(1 << 20))
                file.flush()
    except OSError as error:
        if how == "library":
            raise RuntimeError("unexpected position") from error
        raise


if __name__ == "__main__":
    guarded(lambda: globals()[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:]))
