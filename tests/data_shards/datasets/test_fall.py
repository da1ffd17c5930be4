"""The releases of fall 2009 and fall 2011 in miniature: every image in one half, drawn class by class from a seed."""

import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_shards.datasets.dataset import ImageClass, Sample, as_rows
from data_shards.datasets.fall import draw_held_out
from data_shards.datasets.source import Source
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet

CONFIG = ShardConfig(storage="square64", samples_per_shard=5)
HELD_OUT = {"fall2009": "test", "fall2011": "val"}


def halves(kind: str, root: Path, open_listed: Any, **options: object) -> tuple[list[Sample], list[Sample]]:
    """Return what is for training and what is held out."""
    dataset = open_listed(kind, root, **options)
    return as_rows(dataset.samples("train")), as_rows(dataset.samples(HELD_OUT[kind]))


@pytest.mark.parametrize("kind", HELD_OUT)
def test_every_image_is_stored_once_as_what_it_shows(
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


@pytest.mark.parametrize(("kind", "every"), [("fall2009", 2), ("fall2011", 100)])
def test_of_each_class_a_share_is_held_out_rounded_down(
    kind: str, every: int, tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    official = write_official(tmp_path / "archives", kind)
    sizes = Counter(wnid for wnid, _ in official.shown["all"].values())
    train, held_out = halves(kind, official.root, open_listed)
    assert Counter(sample.wnid for sample in held_out) == Counter({wnid: size // every for wnid, size in sizes.items()})
    assert sorted(train + held_out) == sorted({*train, *held_out})
    assert {sample.name for sample in train + held_out} == set(official.shown["all"])


def test_the_seed_decides_what_is_held_out(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2009", {f"n0000000{n}": 12 for n in range(3)})
    first, again, other = (halves("fall2009", official.root, open_listed, seed=seed)[1] for seed in (0, 0, 1))
    assert first == again
    assert first != other
    source = Source(kind="fall2009", path=official.root, seed=1)
    assert source.open(tmp_path).identity("train")["held_out"] == {"split": "test", "every": 2, "seed": 1}


def test_each_class_is_drawn_anew_and_from_all_over() -> None:
    wnids = ["n01440764", "n02487347"]
    held_out = draw_held_out(pa.chunked_array([wnids[:1] * 400, wnids[:1] * 600 + wnids[1:] * 1000]), 2, 0)
    places = [np.flatnonzero(part) for part in np.split(held_out, 2)]
    assert [len(part) for part in places] == [500, 500]
    assert set(places[0]) != set(places[1])
    assert all(450 < part.mean() < 550 for part in places)


@pytest.mark.parametrize(("kind", "split"), [("fall2009", "val"), ("fall2011", "test")])
def test_a_split_that_is_not_drawn_is_refused(
    kind: str, split: str, tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    dataset = open_listed(kind, write_official(tmp_path / "archives", kind).root)
    with pytest.raises(ValueError, match=f"^{kind} has no split {split}; it is drawn into train and {HELD_OUT[kind]}$"):
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
def test_the_release_gives_the_same_shards_however_it_lies(
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


def test_words_are_those_of_the_list_beside_the_archives(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
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


def test_what_is_held_out_of_a_class_does_not_hang_on_which_others_are_used(
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
def test_a_list_that_cannot_be_is_refused(
    text: str, message: str, tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    official = write_official(tmp_path / "archives", "fall2009")
    (tmp_path / "wnids.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        open_listed("fall2009", official.root, wnids=tmp_path / "wnids.txt").samples("train")


def test_a_list_that_is_no_text_is_refused(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2009")
    (tmp_path / "wnids.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        ValueError, match="wnids.txt holds '\ufffd.*'; expected two or more WNIDs such as n01440764, one a line$"
    ):
        open_listed("fall2009", official.root, wnids=tmp_path / "wnids.txt").classes()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["n01440764.tar"], "archives holds 1 classes; expected one tar or folder a synset, named by its WNID$"),
        (
            ["n01440764.tar", "birds.tar"],
            "archives holds images in 'birds', which is no WNID; expected one tar or folder a synset",
        ),
    ],
)
def test_what_is_no_release_is_refused(
    names: list[str], message: str, tmp_path: Path, open_listed: Any, tar: Any, picture: Any
) -> None:
    (tmp_path / "archives").mkdir()
    for name in names:
        (tmp_path / "archives" / name).write_bytes(tar([("1.JPEG", picture(1))]))
    with pytest.raises(ValueError, match=message):
        open_listed("fall2009", tmp_path / "archives").samples("train")


@pytest.mark.parametrize("kind", HELD_OUT)
def test_a_folder_without_archives_says_what_is_missing(kind: str, tmp_path: Path) -> None:
    splits = Source.model_validate({"kind": kind, "path": tmp_path}).open(tmp_path).splits()
    assert list(splits) == ["train", HELD_OUT[kind]]
    for reason in splits.values():
        assert reason == f"no fall{kind[-2:]}*.tar in {tmp_path}, nor a synset's tar or folder such as n01440764.tar"


def test_files_beside_the_archives_are_not_taken_for_them(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "fall2009")
    (official.root / "fall09_wnids.txt").write_text("n01440764\nn07711080\n")
    train, held_out = halves("fall2009", official.root, open_listed, wnids=official.root / "fall09_wnids.txt")
    assert len(train + held_out) == 11
