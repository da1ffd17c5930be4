"""The whole releases in miniature: each image is in one split, drawn class by class from a seed."""

import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from base.errors import InputError
from data_shards.datasets.dataset import ImageClass, Sample, as_rows
from data_shards.datasets.fall import FallSource, draw_held_out
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet

CONFIG = ShardConfig(storage="square64", samples_per_shard=5)
HELD_OUT = {"fall2009": "test", "fall2011": "val", "winter21": "val"}


def halves(kind: str, root: Path, open_listed: Any, **options: object) -> tuple[list[Sample], list[Sample]]:
    """Return the training samples and the held-out ones."""
    dataset = open_listed(kind, root, **options)
    return as_rows(dataset.samples("train")), as_rows(dataset.samples(HELD_OUT[kind]))


@pytest.mark.parametrize("kind", HELD_OUT)
def test_every_image_is_stored_once_under_its_class(
    kind: str, tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any, shown: Any
) -> None:
    official = write_official(tmp_path / "archives", kind)
    found: dict[str, tuple[str, int]] = {}
    for split in ("train", HELD_OUT[kind]):
        shards = ShardSet.open(write_set(tmp_path / split, open_listed(kind, official.root), split, CONFIG))
        for row in shards.samples.itertuples():
            assert row.name not in found
            data = (shards.directory / row.shard).read_bytes()[row.offset :][: row.size]
            found[row.name] = (row.wnid, shown(data))
            assert shards.wnids[row.class_index] == row.wnid
        assert shards.wnids == sorted({wnid for wnid, _ in official.shown["all"].values()})
        assert shards.classes["ilsvrc_id"].isna().all()
    assert found == official.shown["all"]


@pytest.mark.parametrize(("kind", "every"), [("fall2009", 2), ("fall2011", 100), ("winter21", 100)])
def test_a_fraction_of_each_class_rounded_down_is_held_out(
    kind: str, every: int, tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    official = write_official(tmp_path / "archives", kind)
    sizes = Counter(wnid for wnid, _ in official.shown["all"].values())
    train, held_out = halves(kind, official.root, open_listed)
    assert Counter(sample.wnid for sample in held_out) == Counter({wnid: size // every for wnid, size in sizes.items()})
    assert sorted(train + held_out) == sorted({*train, *held_out})
    assert {sample.name for sample in train + held_out} == set(official.shown["all"])


def test_the_seed_decides_which_images_are_held_out(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2009", {f"n0000000{n}": 12 for n in range(3)})
    first, again, other = (halves("fall2009", official.root, open_listed, seed=seed)[1] for seed in (0, 0, 1))
    assert first == again
    assert first != other
    source = FallSource(kind="fall2009", path=official.root, seed=1)
    assert source.open(tmp_path).identity("train")["held_out"] == {"split": "test", "every": 2, "seed": 1}


def test_each_class_is_drawn_independently_and_from_all_its_images() -> None:
    wnids = ["n01440764", "n02487347"]
    held_out = draw_held_out(pa.chunked_array([wnids[:1] * 400, wnids[:1] * 600 + wnids[1:] * 1000]), 2, 0)
    places = [np.flatnonzero(part) for part in np.split(held_out, 2)]
    assert [len(part) for part in places] == [500, 500]
    assert set(places[0]) != set(places[1])
    assert all(450 < part.mean() < 550 for part in places)


@pytest.mark.parametrize(("kind", "split"), [("fall2009", "val"), ("fall2011", "test"), ("winter21", "test")])
def test_a_split_that_the_release_does_not_have_is_refused(
    kind: str, split: str, tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    dataset = open_listed(kind, write_official(tmp_path / "archives", kind).root)
    with pytest.raises(InputError, match=f"^{kind} has no split {split}; its splits are train and {HELD_OUT[kind]}$"):
        dataset.samples(split)


def unpacked(root: Path) -> Path:
    """Return a folder of class folders instead of a folder of tars."""
    folder = root.with_name("unpacked")
    for synset in root.glob("*.tar"):
        with tarfile.open(synset) as opened:
            opened.extractall(folder / synset.stem, filter="data")
    shutil.copy(root / "words.txt", folder)
    return folder


def one_tar(root: Path) -> Path:
    """Return a folder with one tar of all tars."""
    folder = root.with_name("whole")
    folder.mkdir()
    with tarfile.open(folder / "fall09.tar", "w") as whole:
        for synset in sorted(root.glob("*.tar"), reverse=True):
            whole.add(synset, synset.name)
    shutil.copy(root / "words.txt", folder)
    return folder


def folder_below(root: Path) -> Path:
    """Return a folder whose only folder holds the tars."""
    (root.with_name("below")).mkdir()
    return shutil.copytree(root, root.with_name("below") / "fall2009_images").parent


@pytest.mark.parametrize("rearrange", [unpacked, one_tar, folder_below])
def test_every_layout_of_the_release_gives_the_same_shards(
    rearrange: Any, tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any
) -> None:
    official = write_official(tmp_path / "archives", "fall2009")
    other = rearrange(official.root)
    for split in ("train", "test"):
        sets = [
            write_set(tmp_path / f"{split}-{root.name}", open_listed("fall2009", root), split, CONFIG)
            for root in (official.root, other)
        ]
        first, second = ({path.name: path.read_bytes() for path in folder.glob("*-0*")} for folder in sets)
        assert first == second
        assert len(first) >= 2


def test_words_come_from_the_list_beside_the_archives(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2011")
    classes = open_listed("fall2011", official.root).classes()
    assert classes[0] == ImageClass("n01440764", "words of n01440764")
    (official.root / "words.txt").unlink()
    assert open_listed("fall2011", official.root).classes()[0] == ImageClass("n01440764", "n01440764")


def test_a_list_chooses_the_classes(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2009")
    wnids = tmp_path / "wnids.txt"
    wnids.write_text("n07711080\nn01440764\n\nn07711080\n")
    train, held_out = halves("fall2009", official.root, open_listed, wnids=wnids)
    assert {sample.wnid for sample in train + held_out} == {"n01440764", "n07711080"}
    assert len(train + held_out) == 11
    dataset = open_listed("fall2009", official.root, wnids=wnids)
    assert [wnid for wnid, _ in dataset.classes()] == ["n01440764", "n07711080"]
    assert dataset.identity("train") != open_listed("fall2009", official.root).identity("train")


def test_the_held_out_images_of_a_class_do_not_depend_on_the_other_classes(
    tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    sizes = {f"n0000000{n}": 20 + n for n in range(5)}
    official = write_official(tmp_path / "archives", "fall2009", sizes)
    (tmp_path / "wnids.txt").write_text("n00000001\nn00000004\n")
    _, some = halves("fall2009", official.root, open_listed, wnids=tmp_path / "wnids.txt")
    _, of_all = halves("fall2009", official.root, open_listed)
    assert some == [sample for sample in of_all if sample.wnid in ("n00000001", "n00000004")]
    assert len(some) == 22


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wnids.txt holds 0 WNIDs; expected two or more WNIDs such as n01440764, one a line$"),
        ("n01440764\n", "wnids.txt holds 1 WNIDs; expected two or more"),
        ("n01440764\ngoldfish\n", "wnids.txt holds 'goldfish'; expected two or more"),
        ("n01440764\nn1\n", "wnids.txt holds 'n1'; expected"),
        ("n01440764\nn99999999\n", "archives holds no image of 1 of the 2 classes, such as n99999999; it is incomplete"),
    ],
)
def test_an_impossible_list_of_classes_is_refused(
    text: str, message: str, tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    official = write_official(tmp_path / "archives", "fall2009")
    (tmp_path / "wnids.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        open_listed("fall2009", official.root, wnids=tmp_path / "wnids.txt").samples("train")


def test_a_list_of_classes_that_is_not_text_is_refused(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2009")
    (tmp_path / "wnids.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        InputError, match="wnids.txt holds '\ufffd.*'; expected two or more WNIDs such as n01440764, one a line$"
    ):
        open_listed("fall2009", official.root, wnids=tmp_path / "wnids.txt").classes()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["n01440764.tar"], "archives holds 1 classes; expected one tar or folder a synset, named by its WNID$"),
        (
            ["n01440764.tar", "birds.tar"],
            "archives holds images in 'birds', which is not a WNID; expected one tar or folder a synset",
        ),
    ],
)
def test_a_folder_that_is_not_a_release_is_refused(
    names: list[str], message: str, tmp_path: Path, open_listed: Any, tar: Any, picture: Any
) -> None:
    (tmp_path / "archives").mkdir()
    for name in names:
        (tmp_path / "archives" / name).write_bytes(tar([("1.JPEG", picture(1))]))
    with pytest.raises(InputError, match=message):
        open_listed("fall2009", tmp_path / "archives").samples("train")


@pytest.mark.parametrize("kind", HELD_OUT)
def test_the_splits_of_an_empty_folder_name_the_missing_archive(kind: str, tmp_path: Path) -> None:
    splits = FallSource.model_validate({"kind": kind, "path": tmp_path}).open(tmp_path).splits()
    assert list(splits) == ["train", HELD_OUT[kind]]
    for reason in splits.values():
        assert reason == f"no {kind.replace('20', '')}*.tar in {tmp_path}, nor a synset's tar or folder such as n01440764.tar"


def test_other_files_beside_the_archives_are_ignored(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2009")
    (official.root / "fall09_wnids.txt").write_text("n01440764\nn07711080\n")
    train, held_out = halves("fall2009", official.root, open_listed, wnids=official.root / "fall09_wnids.txt")
    assert len(train + held_out) == 11


def test_a_compressed_release_is_copied_once_and_said(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "winter21")
    dataset = open_listed("winter21", official.root)
    (copy,) = dataset.archives("train")
    written = copy.stat().st_mtime_ns
    assert open_listed("winter21", official.root).archives("val") == [copy]
    assert copy.stat().st_mtime_ns == written
    assert dataset.found("train") == f"winter21_whole.tar.gz is compressed; read from its plain copy {copy}"
    assert dataset.identity("train")["archives"][0]["source"] == "winter21_whole.tar.gz"


def test_a_release_unpacked_to_its_folder_keeps_its_name(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "winter21")
    with tarfile.open(official.root / "winter21_whole.tar.gz") as opened:
        opened.extractall(tmp_path, filter="data")
    expected = [(sample.wnid, sample.name) for sample in halves("winter21", official.root, open_listed)[0]]
    for root in (tmp_path, tmp_path / "winter21_whole"):
        assert [(sample.wnid, sample.name) for sample in halves("winter21", root, open_listed)[0]] == expected
    with pytest.raises(InputError, match="winter21_whole is the release winter21, not fall2011; give its name instead$"):
        open_listed("fall2011", tmp_path / "winter21_whole")


def test_a_compressed_release_that_was_cut_is_refused(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    archive = write_official(tmp_path / "archives", "winter21").root / "winter21_whole.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-4000])
    with pytest.raises(InputError, match="winter21_whole.tar.gz is neither a folder nor a whole tar.*; fetch it again$"):
        open_listed("winter21", archive.parent)
    assert not list((tmp_path / "listed").glob("*.tar"))


def test_small_classes_hold_out_one_image_of_each_class_of_ten_or_more(
    tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    official = write_official(tmp_path / "archives", "fall2011", {"n00000001": 9, "n00000002": 10, "n00000003": 99})
    train, val = halves("fall2011", official.root, open_listed)
    assert Counter(sample.wnid for sample in val) == {"n00000002": 1, "n00000003": 1}
    assert Counter(sample.wnid for sample in train) == {"n00000001": 9, "n00000002": 9, "n00000003": 98}
    said = "no class has 100 images, so one image of each class of 10 or more is held out for val"
    assert open_listed("fall2011", official.root).found("train") == said


def test_one_class_of_a_hundred_images_keeps_the_hundredth(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2011", {"n00000001": 100, "n00000002": 99})
    _, val = halves("fall2011", official.root, open_listed)
    assert [sample.wnid for sample in val] == ["n00000001"]
    assert open_listed("fall2011", official.root).found("val") is None


def test_classes_from_which_nothing_can_be_held_out_are_said_with_the_training_images(
    tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    dataset = open_listed("fall2011", write_official(tmp_path / "archives", "fall2011", {"n00000001": 9, "n00000002": 1}).root)
    assert len(dataset.samples("train")) == 10
    assert dataset.found("train") == "no class has 10 images, so none is held out for val"
    with pytest.raises(
        InputError, match="archives/fall11_whole.tar: no class has 10 images, so none .* the split train alone$"
    ):
        dataset.samples("val")
