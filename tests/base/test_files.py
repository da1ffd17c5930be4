"""Files appear whole: also while two processes write the same one, as when a cluster gives a unit of work to two machines."""

import subprocess
import sys
from pathlib import Path

import pytest

from base.files import atomic_write
from tasks.code import ROOT

SIZE = 1 << 18
WRITER = f"""
import sys
from pathlib import Path
from base.files import atomic_write
for _ in range(60):
    with atomic_write(Path(sys.argv[1])) as file:
        for _ in range(64):
            file.write(sys.argv[2].encode() * {SIZE // 64})
            file.flush()
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from base.files import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_reader_sees_a_whole_file_of_one_of_two_writers(tmp_path: Path) -> None:
    path = tmp_path / "file"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, letter], cwd=ROOT) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.add(path.read_bytes())
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen == {b"a" * SIZE, b"b" * SIZE}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_write(path) as first:
        first.write(b"first")
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(bytes([file.write(b"half") // 0]))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
