"""The copy of an archive to a plain tar is reported, and one that was broken off is made again from its beginning."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from platform import node

import pytest

from base.progress import Message, Progress
from data_shards.datasets.archive import Member, copies_reported, copy_once, plain_tar

CONTENT = b"x" * 1000
DEAD = 2**22 + 1
"""No process has this number."""


class Heard(Progress):
    """Keeps every report, however soon after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Message] = []

    def due(self) -> bool:
        return True

    def _write(self, message: Message) -> None:
        self.messages.append(message)


def members(number: int) -> Iterator[Member]:
    for n in range(number):
        member = tarfile.TarInfo(f"{n}.jpg")
        member.size = len(CONTENT)
        yield member, io.BytesIO(CONTENT)


def broken(number: int) -> Iterator[Member]:
    yield from members(number)
    raise KeyboardInterrupt


def test_a_copy_reports_its_bytes_and_its_files_until_it_is_whole(tmp_path: Path) -> None:
    heard = Heard()
    with copies_reported(heard):
        copy = copy_once("a", "mark", tmp_path, members(3), 3000)
    assert [(message.total, message.unit) for message in heard.messages] == [(3000, "bytes")] * 4
    done = [message.done for message in heard.messages if message.done is not None]
    assert done == sorted(done)
    assert (done[-2] < 3000, done[-1]) == (True, 3000)
    assert heard.messages[-1].text == f"3 files to {copy.name}"
    copy_once("a", "mark", tmp_path, broken(0), 3000)
    copy_once("b", "mark", tmp_path, members(1), 1000)
    assert len(heard.messages) == 4, "a copy that is there, or outside of the block, was reported"


def test_a_copy_that_was_broken_off_leaves_nothing_that_passes_for_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        copy_once("a", "mark", tmp_path, broken(2), 3000)
    assert list(tmp_path.iterdir()) == []
    whole = copy_once("a", "mark", tmp_path, members(3), 3000)
    expected = whole.read_bytes()
    whole.unlink()
    whole.with_name(f"{whole.name}.{node()}-{DEAD}-00000000.partial").write_bytes(
        expected[:1500]
    )  # as a killed process leaves it
    assert copy_once("a", "mark", tmp_path, members(3), 3000).read_bytes() == expected
    assert list(tmp_path.iterdir()) == [whole]


def test_a_compressed_archive_is_reported_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for member, content in members(3):
            tar.addfile(member, content)
    heard = Heard()
    with copies_reported(heard):
        plain_tar(tmp_path / "a.tar.gz", tmp_path / "copies")
    assert heard.messages[-1].done == (tmp_path / "a.tar.gz").stat().st_size
