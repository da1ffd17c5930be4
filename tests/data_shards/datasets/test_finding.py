"""Official archives by their names, and what tells one archive or folder from another."""

import os
from pathlib import Path

import pytest

from base.errors import InputError
from data_shards.datasets.finding import find, has_class_folders, identity, need

PATTERNS = ("train*.tar", "train")


def test_archives_are_found_before_folders_and_other_files_are_not_found(tmp_path: Path) -> None:
    assert find(tmp_path, PATTERNS) is None
    (tmp_path / "train").mkdir()
    (tmp_path / "train.tar.part").touch()
    assert find(tmp_path, PATTERNS) == tmp_path / "train"
    (tmp_path / "train_2.tar").touch()
    (tmp_path / "train_1.tar").touch()
    assert find(tmp_path, PATTERNS) == need(tmp_path, PATTERNS) == tmp_path / "train_1.tar"


def test_a_missing_archive_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^no train\*.tar in {tmp_path}; expected train\*.tar or train$"):
        need(tmp_path, PATTERNS)


@pytest.mark.parametrize(("name", "expected"), [("n01440764", True), ("n01440764.tar", True), ("n1", False), ("cats", False)])
def test_class_folders_are_named_by_a_wnid(name: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert has_class_folders(tmp_path) == expected
    assert not has_class_folders(tmp_path / "nowhere")


def test_a_changed_archive_or_folder_has_another_identity(tmp_path: Path) -> None:
    path, image = tmp_path / "train.tar", tmp_path / "n01440764" / "1.JPEG"
    image.parent.mkdir()
    image.write_bytes(b"x")
    path.write_bytes(b"archive")
    before = identity(path), identity(tmp_path)
    assert (identity(path), identity(tmp_path)) == before
    os.utime(image, ns=(0, 1))
    assert (identity(path), identity(tmp_path)) == (before[0], identity(tmp_path)) != before
    os.utime(path, ns=(0, 1))
    assert identity(path) != before[0]
