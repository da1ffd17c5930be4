"""A dataset as plain values: which go together, and which are refused before any work is done."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from data_shards.datasets.folder import ImageFolder
from data_shards.datasets.source import Source
from data_shards.datasets.synthetic import Synthetic
from data_shards.datasets.tiny_imagenet import TinyImageNet


@pytest.mark.parametrize(
    ("source", "dataset"),
    [
        (Source(kind="synthetic"), Synthetic(100, 50)),
        (Source(kind="synthetic", num_classes=20, train_per_class=3, val_per_class=2, seed=4), Synthetic(3, 2, 20, 4)),
        (Source(kind="synthetic", num_classes=40), Synthetic(100, 50, 40)),
    ],
)
def test_a_drawn_dataset_needs_no_path(source: Source, dataset: Synthetic, tmp_path: Path) -> None:
    assert source.open(tmp_path) == dataset
    assert not list(tmp_path.iterdir())


def test_a_path_opens_as_what_its_kind_says(tmp_path: Path) -> None:
    unpack_dir = tmp_path / "sources"
    assert Source(kind="folder", path=tmp_path).open(unpack_dir) == ImageFolder(tmp_path)
    tiny = Source(kind="tiny-imagenet", path=tmp_path, num_classes=20)
    assert tiny.open(unpack_dir) == TinyImageNet(tmp_path, unpack_dir, 20)
    assert not unpack_dir.exists()


def test_a_path_may_begin_at_home_or_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("~/images", "images"):
        assert Source(kind="folder", path=Path(path)).open(tmp_path) == ImageFolder(tmp_path / "images")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            Source(kind="synthetic", path=Path("/x")),
            "^path does not apply to synthetic; it takes num_classes, seed, train_per_class, val_per_class$",
        ),
        (Source(kind="synthetic", num_classes=30), "^the synthetic dataset has 20 classes or 40, not 30$"),
        (Source(kind="ilsvrc2012"), "^the dataset ilsvrc2012 needs a path: the folder or archive that holds the images$"),
        (Source(kind="fall2011", num_classes=20), "^num_classes does not apply to fall2011; it takes path, seed, wnids$"),
        (Source(kind="ilsvrc2010", path=Path("/"), seed=1), "^seed does not apply to ilsvrc2010; it takes path$"),
        (Source(kind="ilsvrc2010", path=Path("/"), wnids=Path("/x")), "^wnids does not apply to ilsvrc2010; it takes path$"),
        (Source(kind="folder"), "^the dataset folder needs a path: the folder or archive that holds the images$"),
        (Source(kind="tiny-imagenet"), "^the dataset tiny-imagenet needs a path"),
        (
            Source(kind="folder", path=Path("/"), num_classes=20),
            "^num_classes does not apply to folder; it takes path$",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(source: Source, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        source.open(tmp_path)


@pytest.mark.parametrize("kind", ["ilsvrc2010", "ilsvrc2012", "fall2009", "fall2011"])
def test_archives_are_named_by_their_folder(kind: str, tmp_path: Path) -> None:
    dataset = Source.model_validate({"kind": kind, "path": tmp_path}).open(tmp_path)
    assert dataset.name == kind
    (tmp_path / "train.tar").touch()
    source = Source.model_validate({"kind": kind, "path": tmp_path / "train.tar"})
    with pytest.raises(ValueError, match=f"train.tar is a file; the dataset {kind} needs the folder that holds its archives"):
        source.open(tmp_path)


def test_a_list_of_classes_that_is_not_there_is_refused(tmp_path: Path) -> None:
    source = Source(kind="fall2009", path=tmp_path, wnids=tmp_path / "wnids.txt")
    with pytest.raises(
        FileNotFoundError, match=f"^no {tmp_path}/wnids.txt; give the path of a text file with one WNID a line$"
    ):
        source.open(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "tiny-imagenet", "ilsvrc2012", "fall2011"])
def test_a_path_to_nothing_is_refused(kind: str, tmp_path: Path) -> None:
    source = Source.model_validate({"kind": kind, "path": tmp_path / "nowhere"})
    with pytest.raises(FileNotFoundError, match=f"^no {tmp_path}/nowhere; give the path of the {kind} images$"):
        source.open(tmp_path)


@pytest.mark.parametrize("values", [{"train_per_class": 5}, {"val_per_class": 5}, {"seed": 1}])
def test_values_that_only_drawing_reads_are_refused_elsewhere(values: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not apply to folder; it takes path$"):
        Source(kind="folder", path=tmp_path, **values).open(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "kind\n.*required"),
        (
            {"kind": "imagenet"},
            "kind\n.*'synthetic', 'tiny-imagenet', 'folder', 'ilsvrc2010', 'ilsvrc2012', 'fall2009' or 'fall2011'",
        ),
        ({"kind": "synthetic", "num_classes": 1}, "num_classes\n.*greater than 1"),
        ({"kind": "synthetic", "train_per_class": 0}, "train_per_class\n.*greater than 0"),
        ({"kind": "synthetic", "val_per_class": 0}, "val_per_class\n.*greater than 0"),
        ({"kind": "synthetic", "seed": -1}, "seed\n.*greater than or equal to 0"),
        ({"kind": "synthetic", "classes": 20}, "classes\n.*not permitted"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source.model_validate(values)


def test_a_job_file_brings_the_source_back_as_it_was() -> None:
    source = Source(kind="tiny-imagenet", path=Path("/x/y.zip"), num_classes=20)
    assert Source.model_validate_json(source.model_dump_json()) == source
