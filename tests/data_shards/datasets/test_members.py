"""The list of an archive's images, written in pieces and read back by a dataset."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import InputError
from data_shards.datasets.dataset import SAMPLES, Dataset, as_rows
from data_shards.datasets.fall import FALL2009, Fall
from data_shards.datasets.members import check_classes, read_members
from data_shards.datasets.scanning import Scan, write_members

A, B = "n01440764", "n02487347"
TarOf = Callable[..., bytes]


def synset(tar: TarOf, wnid: str) -> bytes:
    return tar((f"{wnid}_{n}.JPEG", f"image {wnid} {n}".encode()) for n in (0, 1))


def listed(root: Path, tmp_path: Path) -> Dataset:
    """Return the synsets of a folder with the list of their members."""
    for _ in write_members(Scan(root), tmp_path / "members.parquet"):
        pass
    return Fall(FALL2009, root, lists={root: tmp_path / "members.parquet"})


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def test_a_list_is_written_in_pieces_and_read_back(
    inbox: Path, tmp_path: Path, tar: TarOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_shards.datasets.scanning.ROWS_AT_ONCE", 3)
    path = inbox / "train.tar"
    path.write_bytes(tar((f"{wnid}.tar", synset(tar, wnid)) for wnid in (A, B)))
    assert list(write_members(Scan(path), tmp_path / "members.parquet")) == [3, 4]
    table = read_members(path, tmp_path / "members.parquet")
    assert table.column_names == ["folder", "name", "path", "offset", "size"]
    assert table["path"].to_pylist() == [str(path)] * 4
    assert table["size"].to_pylist() == [17] * 4
    assert pq.read_metadata(tmp_path / "members.parquet").num_row_groups == 2


def test_files_and_archives_side_by_side_are_each_read_in_place(inbox: Path, tmp_path: Path, tar: TarOf) -> None:
    (inbox / f"{A}.tar").write_bytes(synset(tar, A))
    (inbox / B).mkdir()
    for n in (0, 1):
        (inbox / B / f"{B}_{n}.JPEG").write_bytes(f"image {B} {n}".encode())
    dataset = listed(inbox, tmp_path)
    samples = [sample for split in ("train", "test") for sample in as_rows(dataset.samples(split))]
    assert {sample.name: dataset.read(sample) for sample in samples} == {
        f"{wnid}_{n}.JPEG": f"image {wnid} {n}".encode() for wnid in (A, B) for n in (0, 1)
    }
    assert dataset.samples("train").schema == SAMPLES


def cut_within_an_image(path: Path, offset: int) -> None:
    os.truncate(path, offset + 8)


def remove(path: Path, offset: int) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut_within_an_image, f"{A}.tar ends within {A}_[01].JPEG, at byte [0-9,]+; it was cut short$"),
        (remove, f"^no .*/{A}.tar, which held {A}_[01].JPEG; restore it and run again$"),
    ],
)
def test_an_archive_that_changed_after_it_was_listed_is_one_sentence(
    change: Any, message: str, inbox: Path, tmp_path: Path, tar: TarOf
) -> None:
    for wnid in (A, B):
        (inbox / f"{wnid}.tar").write_bytes(synset(tar, wnid))
    dataset = listed(inbox, tmp_path)
    sample = as_rows(dataset.samples("train"))[0]
    change(inbox / f"{A}.tar", sample.offset)
    with pytest.raises(InputError, match=message):
        dataset.read(sample)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([A, B, "notes"], "^/x holds images in 1 folders or tars that are none of its classes, such as 'notes'; expected one"),
        ([A, B, ""], r"such as '\.'; expected one for each WNID of its list of classes$"),
        ([B], f"^/x holds no image of 1 of the 2 classes, such as {A}; it is incomplete, fetch it again$"),
    ],
)
def test_folders_other_than_the_known_classes_are_refused(found: list[str], message: str) -> None:
    check_classes(pa.chunked_array([[A, B, A]]), [A, B], Path("/x"))
    with pytest.raises(InputError, match=message):
        check_classes(pa.chunked_array([found]), [A, B], Path("/x"))
