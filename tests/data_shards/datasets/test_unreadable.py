"""What stands in place of an archive or a file, through every source that can hold it: the sentence says what it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from base.errors import InputError
from data_shards.datasets.scanning import Scan, write_members
from data_shards.datasets.source import AnySource

ZSTD = b"\x28\xb5\x2f\xfd" + bytes(1000)
ARCHIVES = {
    "ilsvrc2010": "ILSVRC2010_images_train.tar",
    "ilsvrc2012": "ILSVRC2012_img_train.tar",
    "fall2009": "n01440764.tar",
    "fall2011": "fall11_whole.tar",
    "winter21": "winter21_whole.tar.gz",
    "parquet": "train-00000-of-00001.parquet",
    "wds": "train-0000.tar",
    "folder": "train",
}
"""What each source reads from its folder."""
GIVEN = {**ARCHIVES, "tiny-imagenet": "tiny-imagenet-200.zip", "imagenette": "imagenette2.tgz"}
LINK = " is a link to nowhere, which is not there; restore that file or replace the link"
COMPRESSED = " is compressed with zstd, which is not read here; unpack it and give the folder, or the tar"


def read(kind: str, path: Path, listed: Path) -> None:
    """List the training images of a source."""
    source = TypeAdapter[AnySource](AnySource).validate_python({"kind": kind, "path": path})
    dataset = source.open(listed)
    dataset.identity("train")
    lists = {archive: listed / f"{number}.parquet" for number, archive in enumerate(dataset.archives("train"))}
    for archive, members in lists.items():
        for _ in write_members(Scan(archive), members):
            pass
    source.open(listed, lists).samples("train")


def refusal(kind: str, path: Path) -> str:
    """Return why the training images of a source are refused."""
    listed = path.with_name("listed")
    listed.mkdir()
    with pytest.raises(InputError) as caught:
        read(kind, path, listed)
    return str(caught.value)


def broken_link(path: Path) -> str:
    path.symlink_to("nowhere")
    return LINK


def compressed(path: Path) -> str:
    path.write_bytes(ZSTD)
    return COMPRESSED


@pytest.mark.parametrize("kind", GIVEN)
def test_a_path_that_is_a_link_to_nothing_is_named_as_one(kind: str, tmp_path: Path) -> None:
    sentence = broken_link(tmp_path / "images")
    assert refusal(kind, tmp_path / "images") == f"{tmp_path}/images{sentence}"


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_link_to_nothing_in_the_folder_is_named_as_one(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "images" / ARCHIVES[kind]
    place.parent.mkdir()
    sentence = broken_link(place)
    assert refusal(kind, tmp_path / "images") == f"{place}{sentence}"


@pytest.mark.parametrize("kind", [kind for kind in ARCHIVES if kind != "folder"])
def test_an_archive_that_was_compressed_again_is_not_said_to_be_missing(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "images" / f"{ARCHIVES[kind]}.zst"
    place.parent.mkdir()
    sentence = compressed(place)
    assert refusal(kind, tmp_path / "images") == f"{place}{sentence}"


@pytest.mark.parametrize("kind", ["winter21", "parquet", "wds", "tiny-imagenet", "imagenette"])
def test_nobody_is_asked_to_fetch_again_what_is_compressed_in_another_way(kind: str, tmp_path: Path) -> None:
    """The other releases are refused while they are scanned: test_scanning.py."""
    given = kind in ("tiny-imagenet", "imagenette")
    place = tmp_path / GIVEN[kind] if given else tmp_path / "images" / GIVEN[kind]
    place.parent.mkdir(exist_ok=True)
    sentence = compressed(place)
    assert refusal(kind, place if given else tmp_path / "images") == f"{place}{sentence}"


@pytest.mark.parametrize("kind", ["parquet", "wds"])
def test_a_folder_that_is_called_like_a_file_is_named_as_one(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "images" / ARCHIVES[kind]
    place.mkdir(parents=True)
    assert refusal(kind, tmp_path / "images") == f"{place} is a folder; expected a file"


def folder(path: Path) -> str:
    path.mkdir()
    return " is a folder; give the path of a text file with one WNID a line"


@pytest.mark.parametrize("make", [broken_link, folder])
def test_a_list_of_classes_that_is_no_file_is_named_as_what_it_is(make: Callable[[Path], str], tmp_path: Path) -> None:
    sentence = make(tmp_path / "wnids.txt")
    source = {"kind": "folder", "path": tmp_path, "wnids": tmp_path / "wnids.txt"}
    with pytest.raises(InputError) as caught:
        TypeAdapter[AnySource](AnySource).validate_python(source).open(tmp_path)
    assert str(caught.value) == f"{tmp_path}/wnids.txt{sentence}"


def test_a_class_that_holds_only_subfolders_is_not_said_to_be_empty(tmp_path: Path) -> None:
    for place in ("train/a/2012", "train/b/2012"):
        (tmp_path / "images" / place).mkdir(parents=True)
    said = refusal("folder", tmp_path / "images")
    assert said.startswith(f"class {tmp_path}/images/train/a holds no image, but 1 empty folders (such as 2012); put images")
