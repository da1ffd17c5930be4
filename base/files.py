"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from platform import node
from secrets import token_hex
from typing import IO


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that gets the name `path` only after all of it is on the disk.

    It is written as `<name>.<machine>-<process>-<random>.partial` in the same folder, flushed to the disk and renamed. If the
    block raises, `path` stays as it was and the partial file is removed. What killed processes of this machine have left of it
    is removed first. Two processes, even of two machines, can write the same file at once: it is always a whole one of theirs.
    """
    for left in path.parent.glob(f"{escape(f'{path.name}.{node()}')}-*.partial"):
        if not Path("/proc", left.name.split("-")[-2]).exists():
            left.unlink(missing_ok=True)
    partial = path.with_name(f"{path.name}.{node()}-{os.getpid()}-{token_hex(4)}.partial")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file with `atomic_write`."""
    with atomic_write(path) as file:
        file.write(text.encode())


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
