"""Class folders on disk: the classes and images in them, and the layouts that are refused."""

import os
import re
from pathlib import Path

import pytest

from base.errors import InputError
from data_shards.datasets.dataset import ImageClass, Sample, as_rows
from data_shards.datasets.folder import ImageFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of two classes with three images for training and two for validation."""
    for name in ("train/cat/b.jpg", "train/cat/a.JPEG", "train/dog/c.png", "val/cat/a.jpg", "val/dog/d.webp"):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"bytes of {name}".encode())
    return tmp_path / "pets"


def test_classes_are_the_training_folders_in_name_order(root: Path) -> None:
    dataset = ImageFolder(root)
    assert dataset.name == "pets"
    assert dataset.classes() == [ImageClass("cat", "cat"), ImageClass("dog", "dog")]


def test_samples_are_ordered_by_class_then_by_name_and_can_be_read(root: Path) -> None:
    dataset = ImageFolder(root)
    samples = as_rows(dataset.samples("train"))
    assert samples[0] == Sample("cat", "a.JPEG", str(root / "train" / "cat" / "a.JPEG"))
    assert [(sample.wnid, sample.name) for sample in samples] == [("cat", "a.JPEG"), ("cat", "b.jpg"), ("dog", "c.png")]
    assert [dataset.read(sample) for sample in samples] == [
        f"bytes of train/{sample.wnid}/{sample.name}".encode() for sample in samples
    ]
    assert dataset.samples("val")["name"].to_pylist() == ["a.jpg", "d.webp"]


@pytest.mark.parametrize(
    "name", ["train/cat/notes.txt", "train/cat/Thumbs.db", "train/.cache/x.jpg", "val/.cache/x.jpg", "train/x.jpg"]
)
def test_other_files_and_folders_are_ignored(root: Path, name: str) -> None:
    before = ImageFolder(root).samples("train"), ImageFolder(root).samples("val")
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(b"x")
    assert (ImageFolder(root).samples("train"), ImageFolder(root).samples("val")) == before


def test_a_test_split_is_read_if_there_is_one(root: Path) -> None:
    (root / "val").rename(root / "test")
    assert len(ImageFolder(root).samples("test")) == 2


def remove_dogs(root: Path) -> None:
    (root / "train" / "dog" / "c.png").unlink()
    (root / "train" / "dog").rmdir()


def change_the_only_image_of_a_class(root: Path) -> None:
    (root / "val" / "dog" / "d.webp").rename(root / "val" / "dog" / "d.doc")


def empty_a_class(root: Path) -> None:
    (root / "val" / "dog" / "d.webp").unlink()


def leave_a_subfolder(root: Path) -> None:
    empty_a_class(root)
    (root / "val" / "dog" / "2012").mkdir()


def drop_a_class_of_val(root: Path) -> None:
    (root / "val" / "dog" / "d.webp").unlink()
    (root / "val" / "dog").rmdir()


def add_a_class_to_val(root: Path) -> None:
    (root / "val" / "eel").mkdir()


def rename_val(root: Path) -> None:
    (root / "val").rename(root / "validation")


def rename_train(root: Path) -> None:
    (root / "train").rename(root / "training")


def take_classes_out_of_train(root: Path) -> None:
    for folder in (root / "train").iterdir():
        folder.rename(root / folder.name)
    (root / "train").rmdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_dogs, "train holds 1 class folders; expected two or more, one a class, with its images in it$"),
        (
            change_the_only_image_of_a_class,
            r"^class .*val/dog holds no image, but 1 .doc files \(such as d.doc\); put images \(.jpeg, .* in it or",
        ),
        (empty_a_class, r"^class .*val/dog is empty; put images \(.jpeg, .jpg, .*\) in it or remove the class$"),
        (leave_a_subfolder, r"^class .*val/dog holds no image, but 1 empty folders \(such as 2012\); put images"),
        (drop_a_class_of_val, "val has no folder for the class 'dog', which .*/train has; add it, or remove the class$"),
        (add_a_class_to_val, "val has the class 'eel', but .*train does not; remove or add it$"),
        (
            rename_val,
            "^no folder .*pets/val; expected class folders with images in .*pets/train and .*pets/val$",
        ),
        (rename_train, "^no folder .*pets/train, but 1 other folders in .*pets, such as training: if these are classes, move"),
        (
            take_classes_out_of_train,
            "^no folder .*pets/train, but 2 other folders in .*pets, such as cat: if these are classes, move them into train, "
            "and some images of each into the same folders in val; expected class folders with images in .*/train and .*/val$",
        ),
    ],
)
def test_a_folder_of_another_layout_is_refused(root: Path, spoil: object, message: str) -> None:
    assert callable(spoil)
    spoil(root)
    with pytest.raises(InputError, match=message):
        ImageFolder(root).samples("val")


def rename_image(root: Path) -> None:
    (root / "train" / "cat" / "a.JPEG").rename(root / "train" / "cat" / "z.JPEG")


def move_image(root: Path) -> None:
    (root / "train" / "cat" / "a.JPEG").rename(root / "train" / "dog" / "a.JPEG")


def grow_image(root: Path) -> None:
    path = root / "train" / "cat" / "a.JPEG"
    stat = path.stat()
    path.write_bytes(path.read_bytes() + b"!")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def touch_image(root: Path) -> None:
    os.utime(root / "train" / "cat" / "a.JPEG", ns=(0, 1))


@pytest.mark.parametrize("change", [rename_image, move_image, grow_image, touch_image])
def test_a_changed_file_is_another_input(root: Path, change: object) -> None:
    before, val = ImageFolder(root).identity("train"), ImageFolder(root).identity("val")
    assert ImageFolder(root).identity("train") == before
    assert callable(change)
    change(root)
    assert ImageFolder(root).identity("train") != before
    assert ImageFolder(root).identity("val") == val


def test_the_same_files_elsewhere_are_the_same_input(root: Path) -> None:
    before = ImageFolder(root).identity("train")
    assert re.fullmatch(r"[0-9a-f]{64}", before["files"])
    moved = root.rename(root.with_name("animals"))
    assert ImageFolder(moved).identity("train") == before
