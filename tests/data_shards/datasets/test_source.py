"""Sources as plain values: their fields, the datasets they open, and the values that are refused before any work is done."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from base.errors import InputError
from data_shards.datasets.dataset import Source
from data_shards.datasets.fall import FallSource
from data_shards.datasets.folder import FolderSource, ImageFolder
from data_shards.datasets.source import AnySource
from data_shards.datasets.synthetic import Synthetic, SyntheticSource
from data_shards.datasets.tiny_imagenet import TinyImageNet, TinyImageNetSource

FIELDS = {
    "synthetic": {"num_classes", "train_per_class", "val_per_class", "seed", "wnids"},
    "tiny-imagenet": {"path", "num_classes", "wnids"},
    "folder": {"path", "wnids"},
    "ilsvrc2010": {"path", "wnids"},
    "ilsvrc2012": {"path", "wnids"},
    "fall2009": {"path", "wnids", "seed"},
    "fall2011": {"path", "wnids", "seed"},
    "winter21": {"path", "wnids", "seed"},
    "parquet": {"path", "wnids"},
    "wds": {"path", "class_list", "label", "wnids"},
    "imagenette": {"path", "wnids"},
    "imagewoof": {"path", "wnids"},
}


def validated(**values: object) -> Source:
    source: Source = TypeAdapter[AnySource](AnySource).validate_python(values)
    return source


@pytest.mark.parametrize(
    ("source", "dataset"),
    [
        (SyntheticSource(), Synthetic(100, 50)),
        (SyntheticSource(num_classes=20, train_per_class=3, val_per_class=2, seed=4), Synthetic(3, 2, 20, 4)),
        (SyntheticSource(num_classes=40), Synthetic(100, 50, 40)),
    ],
)
def test_a_drawn_dataset_needs_no_path(source: Source, dataset: Synthetic, tmp_path: Path) -> None:
    assert source.open(tmp_path) == dataset
    assert not list(tmp_path.iterdir())


def test_a_path_opens_as_the_source_s_dataset(tmp_path: Path) -> None:
    unpack_dir = tmp_path / "sources"
    assert FolderSource(path=tmp_path).open(unpack_dir) == ImageFolder(tmp_path)
    tiny = TinyImageNetSource(path=tmp_path, num_classes=20)
    assert tiny.open(unpack_dir) == TinyImageNet(tmp_path, unpack_dir, 20)
    assert not unpack_dir.exists()


def test_a_path_may_be_relative_to_home_or_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("~/images", "images"):
        assert FolderSource(path=Path(path)).open(tmp_path) == ImageFolder(tmp_path / "images")


@pytest.mark.parametrize("kind", FIELDS)
def test_each_kind_has_only_its_own_fields(kind: str) -> None:
    values: dict[str, object] = {
        "path": "/x",
        "num_classes": 20,
        "train_per_class": 5,
        "val_per_class": 5,
        "wnids": "/y",
        "class_list": "/z",
        "label": "class",
        "seed": 1,
    }
    assert validated(kind=kind, **{name: values[name] for name in FIELDS[kind]}).kind == kind
    for name in values.keys() - FIELDS[kind]:
        with pytest.raises(ValidationError, match=f"{kind}.{name}\n.*not permitted"):
            validated(kind=kind, **{name: values[name]})


@pytest.mark.parametrize("kind", [kind for kind in FIELDS if kind != "synthetic"])
def test_a_kind_that_needs_a_path_is_refused_without_one(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^the dataset {kind} needs a path: the folder or archive that holds the images$"):
        validated(kind=kind).open(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "ilsvrc2010", "ilsvrc2012", "fall2009", "fall2011", "winter21"])
def test_a_file_is_refused_if_a_folder_is_needed(kind: str, tmp_path: Path) -> None:
    (tmp_path / "train.tar").touch()
    source = validated(kind=kind, path=tmp_path / "train.tar")
    with pytest.raises(InputError, match=f"train.tar is a file; the dataset {kind} needs the folder that holds its archives"):
        source.open(tmp_path)


@pytest.mark.parametrize("kind", ["ilsvrc2010", "ilsvrc2012", "fall2009", "fall2011", "winter21"])
def test_an_official_release_is_named_by_its_kind(kind: str, tmp_path: Path) -> None:
    assert validated(kind=kind, path=tmp_path).open(tmp_path).name == kind


def test_a_missing_list_of_classes_is_refused(tmp_path: Path) -> None:
    source = FallSource(kind="fall2009", path=tmp_path, wnids=tmp_path / "wnids.txt")
    with pytest.raises(InputError, match=f"^no {tmp_path}/wnids.txt; give the path of a text file with one WNID a line$"):
        source.open(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "tiny-imagenet", "ilsvrc2012", "fall2011"])
def test_a_missing_path_is_refused(kind: str, tmp_path: Path) -> None:
    source = validated(kind=kind, path=tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"^no {tmp_path}/nowhere; give the path of the {kind} images$"):
        source.open(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "Unable to extract tag using discriminator 'kind'"),
        (
            {"kind": "imagenet"},
            f"'imagenet' .*{', '.join(repr(kind) for kind in FIELDS)}",
        ),
        ({"kind": "synthetic", "num_classes": 30}, "num_classes\n.*20 or 40"),
        ({"kind": "tiny-imagenet", "num_classes": 1}, "num_classes\n.*greater than 1"),
        ({"kind": "synthetic", "train_per_class": 0}, "train_per_class\n.*greater than 0"),
        ({"kind": "synthetic", "val_per_class": 0}, "val_per_class\n.*greater than 0"),
        ({"kind": "synthetic", "seed": -1}, "seed\n.*greater than or equal to 0"),
        ({"kind": "fall2009", "seed": -1}, "seed\n.*greater than or equal to 0"),
        ({"kind": "synthetic", "classes": 20}, "classes\n.*not permitted"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        validated(**values)


def test_json_returns_an_equal_source() -> None:
    source = TinyImageNetSource(path=Path("/x/y.zip"), num_classes=20)
    assert TypeAdapter[AnySource](AnySource).validate_json(source.model_dump_json()) == source
