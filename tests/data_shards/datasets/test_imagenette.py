"""Imagenette and Imagewoof: the archive and its folder give the same samples, and neither passes for the other."""

import tarfile
from pathlib import Path
from typing import Any

import pytest

from base.errors import InputError
from data_shards.datasets.dataset import as_rows
from data_shards.datasets.imagenette import CLASSES, ImagenetteSource


@pytest.fixture(params=CLASSES)
def kind(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def archive(kind: str, tmp_path: Path, tar: Any, picture: Any) -> Path:
    """Write the archive with one image of each class and split, as fastai does."""
    path = tmp_path / f"{kind}2-320.tgz"
    wnids = sorted(CLASSES[kind])
    names = [f"{kind}2-320/{split}/{wnid}/{wnid}_{split}.JPEG" for split in ("train", "val") for wnid in wnids]
    files = [(name, picture(number)) for number, name in enumerate(names)]
    path.write_bytes(tar([*files, (f"{kind}2-320/noisy_{kind}.csv", b"path\n")], "w:gz"))
    return path


def samples_of(dataset: Any, split: str) -> dict[tuple[str | None, str], bytes]:
    return {(sample.wnid, sample.name): dataset.read(sample) for sample in as_rows(dataset.samples(split))}


def test_the_archive_and_its_folder_give_the_same_samples(
    kind: str, archive: Path, tmp_path: Path, open_listed: Any, picture: Any
) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    for place, split in enumerate(("train", "val")):
        wnids = sorted(CLASSES[kind])
        expected = {(wnid, f"{wnid}_{split}.JPEG"): picture(10 * place + number) for number, wnid in enumerate(wnids)}
        for root in (archive, tmp_path / "unpacked", tmp_path / "unpacked" / f"{kind}2-320"):
            dataset = open_listed(kind, root, split)
            assert samples_of(dataset, split) == expected
            assert dataset.splits() == {"train": None, "val": None}
    assert open_listed(kind, archive).found("train").startswith(f"found {kind}2-320.tgz: 1 files of ")


def test_the_other_set_is_refused(kind: str, archive: Path, open_listed: Any) -> None:
    (other,) = CLASSES.keys() - {kind}
    with pytest.raises(InputError, match="holds images in 10 folders or tars that are none of its classes, such as"):
        open_listed(other, archive).samples("train")


def test_a_list_chooses_the_classes(kind: str, archive: Path, tmp_path: Path, open_listed: Any) -> None:
    wnids = sorted(CLASSES[kind])[3:6]
    (tmp_path / "wnids.txt").write_text("\n".join(wnids))
    dataset = open_listed(kind, archive, wnids=tmp_path / "wnids.txt")
    assert [wnid for wnid, _ in samples_of(dataset, "train")] == wnids
    assert dataset.name.startswith(f"{kind}-3-")


def test_what_is_missing_is_named(kind: str, tmp_path: Path) -> None:
    source = ImagenetteSource.model_validate({"kind": kind, "path": tmp_path})
    for split, reason in source.open(tmp_path).splits().items():
        assert reason == f"no folder {split} in {tmp_path}; expected {split} with a folder for each of the ten classes"
    with pytest.raises(InputError, match=f"^{kind} has no split test; its splits are train and val$"):
        source.open(tmp_path).archives("test")
