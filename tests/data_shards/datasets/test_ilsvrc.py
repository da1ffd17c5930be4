"""ILSVRC-2010 and -2012: the official archives in miniature, and every folder that they are unpacked to, as shards."""

import io
import re
import shutil
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from base.errors import InputError
from data_shards.datasets.dataset import Dataset, as_rows
from data_shards.datasets.ilsvrc import IlsvrcSource
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet

CONFIG = ShardConfig(storage="square64", samples_per_shard=7)
IMAGES = {"ilsvrc2010": "images", "ilsvrc2012": "img"}
EVERY = [(kind, split) for kind in IMAGES for split in ("train", "val", "test")]
SORTED_WNIDS = ["n01440764", "n01443537", "n02487347", "n03000134", "n07711080"]
ILSVRC_IDS = [2, 4, 1, 5, 3]


def archive(root: Path, kind: str, split: str) -> Path:
    (found,) = root.glob(f"ILSVRC{kind[-4:]}_{IMAGES[kind]}_{split}*.tar")
    return found


def bytes_of(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each tar and index of a set."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in directory.glob("*-0*")}


def stored(directory: Path, shown: Callable[[bytes], int]) -> dict[str, tuple[str | None, int]]:
    """Return each image's WNID in the set and the picture that it shows, by its name."""
    samples = pd.read_parquet(directory / "samples.parquet")
    found = {}
    for row in samples.itertuples():
        data = (directory / row.shard).read_bytes()[row.offset :][: row.size]
        found[row.name] = (row.wnid if isinstance(row.wnid, str) else None, shown(data))
    assert len(found) == len(samples), "an image was stored twice"
    return found


@pytest.mark.parametrize(("kind", "split"), EVERY)
def test_every_image_is_stored_once_under_its_class(
    kind: str, split: str, tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any, shown: Any, picture: Any
) -> None:
    official = write_official(tmp_path / "archives", kind)
    dataset = open_listed(kind, official.root, split)
    directory = write_set(tmp_path / "shards", dataset, split, CONFIG)
    assert stored(directory, shown) == official.shown[split]
    samples = pd.read_parquet(directory / "samples.parquet")
    assert dataset.official_count(split) > len(samples)
    assert set(samples["source"]) == {path.name for path in dataset.archives(split)}
    for row in samples.itertuples():
        with open(official.root / row.source, "rb") as file:
            source = picture(official.shown[split][row.name][1])
            file.seek(row.source_offset)
            assert file.read(len(source)) == source
            assert row.source_sha256 == sha256(source).hexdigest()


@pytest.mark.parametrize(("kind", "split"), [case for case in EVERY if case != ("ilsvrc2012", "test")])
def test_labels_agree_in_all_three_numberings(
    kind: str, split: str, tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any
) -> None:
    official = write_official(tmp_path / "archives", kind)
    shards = ShardSet.open(write_set(tmp_path / "shards", open_listed(kind, official.root, split), split, CONFIG))
    assert list(shards.classes["wnid"]) == SORTED_WNIDS
    assert list(shards.classes["ilsvrc_id"]) == ILSVRC_IDS
    assert list(shards.classes["words"]) == [
        f"thing {number - 1}, {wnid}" for number, wnid in zip(ILSVRC_IDS, SORTED_WNIDS, strict=True)
    ]
    for row in shards.samples.itertuples():
        assert SORTED_WNIDS[row.class_index] == row.wnid == official.shown[split][row.name][0]
    for path in shards.tars:
        with tarfile.open(path) as tar:
            labels = {name[:-4]: int(tar.extractfile(name).read()) for name in tar.getnames() if name.endswith(".cls")}  # type: ignore[union-attr]
        rows = shards.samples[shards.samples["shard"] == path.name]
        assert labels == dict(zip(rows["key"], rows["class_index"], strict=True))


def test_the_truth_follows_the_sorted_names_in_an_unsorted_tar(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    with tarfile.open(archive(official.root, "ilsvrc2012", "val")) as tar:
        names = tar.getnames()
    assert names != sorted(names)
    samples = as_rows(open_listed("ilsvrc2012", official.root, "val").samples("val"))
    assert {sample.name: sample.wnid for sample in samples} == {name: wnid for name, (wnid, _) in official.shown["val"].items()}
    assert samples == sorted(samples)


def test_the_test_images_of_2012_have_no_label_anywhere(
    tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any
) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    directory = write_set(tmp_path / "shards", open_listed("ilsvrc2012", official.root, "test"), "test", CONFIG)
    samples = pd.read_parquet(directory / "samples.parquet")
    assert samples[["wnid", "class_index"]].isna().all().all()
    with tarfile.open(directory / "test-00000.tar") as tar:
        assert sorted(tar.getnames()) == [f"ILSVRC2012_test_{n:08d}.jpg" for n in range(1, 7)]
    assert "cls" not in (directory / "test-00000.idx").read_text()
    assert len(pd.read_parquet(directory / "classes.parquet")) == 5


def test_the_hierarchy_and_the_costs_of_2010_are_kept(
    tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any
) -> None:
    for kind in IMAGES:
        official = write_official(tmp_path / kind, kind)
        directory = write_set(tmp_path / f"{kind}-shards", open_listed(kind, official.root, "val"), "val", CONFIG)
        synsets = pd.read_parquet(directory / "synsets.parquet")
        assert list(synsets["ilsvrc_id"]) == list(range(1, 8))
        assert list(synsets["num_children"]) == [0, 0, 0, 0, 0, 3, 3]
        assert (directory / "cost_matrix.npy").exists() == (kind == "ilsvrc2010")


def test_a_patch_replaces_the_image_of_its_name(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2010")
    for split in ("train", "val", "test"):
        dataset = open_listed("ilsvrc2010", official.root, split)
        samples = as_rows(dataset.samples(split))
        patched = [sample.name for sample in samples if Path(sample.path).name == "patch_images.tar"]
        assert patched == sorted(official.shown[split])[1:3]
        assert len(samples) == len(official.shown[split])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "patch_images/val/ILSVRC2010_val_00000099.JPEG",
            "^1 of 1 patch images have no image to replace; these archives belong",
        ),
        ("patch_images/ILSVRC2010_val_00000001.JPEG", "patch_images.tar holds patches in the folder 'patch_images'; expected"),
        ("patch_images/valid/ILSVRC2010_val_00000001.JPEG", "holds patches in the folder 'valid'; expected train, val, test"),
    ],
)
def test_a_patch_without_an_image_is_refused(
    name: str, message: str, tmp_path: Path, write_official: Any, open_listed: Any, tar: Any, picture: Any
) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2010")
    (official.root / "patch_images.tar").write_bytes(tar([(name, picture(1))]))
    with pytest.raises(InputError, match=message):
        open_listed("ilsvrc2010", official.root, "val").samples("val")


# Folders that people unpack the archives to.


def extract(archive: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return folder


def class_folders(root: Path, train: Path) -> None:
    """Unpack the training archive as torchvision's script does: train/<wnid>/*.JPEG."""
    tars = extract(archive(root, "ilsvrc2012", "train"), root.with_name("tars"))
    for synset in tars.iterdir():
        extract(synset, train / synset.stem)


def in_train(root: Path) -> None:
    class_folders(root, root / "train")


def in_kaggle(root: Path) -> None:
    class_folders(root, root / "ILSVRC" / "Data" / "CLS-LOC" / "train")


def in_links(root: Path) -> None:
    class_folders(root, root.with_name("elsewhere"))
    (root / "train").mkdir()
    for folder in root.with_name("elsewhere").iterdir():
        (root / "train" / folder.name).symlink_to(folder)


def in_synset_tars(root: Path) -> None:
    extract(archive(root, "ilsvrc2012", "train"), root / "train")


def in_one_tar_of_folders(root: Path) -> None:
    class_folders(root, root.with_name("train"))
    with tarfile.open(archive(root, "ilsvrc2012", "train"), "w") as packed:
        packed.add(root.with_name("train"), "train")


def repack(root: Path, prefix: str) -> None:
    path = archive(root, "ilsvrc2012", "train")
    with tarfile.open(path) as opened:
        members = [(member, opened.extractfile(member).read()) for member in opened]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as packed:
        for member, data in members:
            member.name = f"{prefix}{member.name}"
            packed.addfile(member, io.BytesIO(data))


def under_train(root: Path) -> None:
    repack(root, "train/")


def under_a_dot(root: Path) -> None:
    repack(root, "./")


@pytest.mark.parametrize(
    "unpack",
    [in_train, in_kaggle, in_links, in_synset_tars, in_one_tar_of_folders, under_train, under_a_dot],
)
def test_every_layout_of_the_training_images_gives_the_same_shards(
    unpack: Callable[[Path], None], tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any, shown: Any
) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    whole = write_set(tmp_path / "whole", open_listed("ilsvrc2012", official.root), "train", CONFIG)
    unpack(official.root)
    if unpack not in (in_one_tar_of_folders, under_train, under_a_dot):
        archive(official.root, "ilsvrc2012", "train").unlink()
    directory = write_set(tmp_path / "again", open_listed("ilsvrc2012", official.root), "train", CONFIG)
    assert stored(directory, shown) == official.shown["train"]
    assert bytes_of(directory) == bytes_of(whole)
    assert len(bytes_of(whole)) == 8


def flat(root: Path, official: Any) -> None:
    extract(archive(root, "ilsvrc2012", "val"), root / "val")


def flat_in_kaggle(root: Path, official: Any) -> None:
    extract(archive(root, "ilsvrc2012", "val"), root / "ILSVRC" / "Data" / "CLS-LOC" / "val")


def in_classes(root: Path, official: Any) -> None:
    """Unpack the validation archive as torchvision's script does: val/<wnid>/*.JPEG."""
    flat(root, official)
    for image in list((root / "val").iterdir()):
        folder = root / "val" / official.shown["val"][image.name][0]
        folder.mkdir(exist_ok=True)
        image.rename(folder / image.name)


def in_classes_without_truth(root: Path, official: Any) -> None:
    """The same, with nothing but meta.mat in the devkit."""
    in_classes(root, official)
    devkit = extract(root / "ILSVRC2012_devkit_t12.tar.gz", root.with_name("devkit"))
    (root / "ILSVRC2012_devkit_t12").mkdir()
    shutil.move(devkit / "ILSVRC2012_devkit_t12" / "data" / "meta.mat", root / "ILSVRC2012_devkit_t12")
    (root / "ILSVRC2012_devkit_t12.tar.gz").unlink()


def truth_beside(root: Path, official: Any) -> None:
    """Unpack flat, and move the truth out of the devkit."""
    flat(root, official)
    devkit = extract(root / "ILSVRC2012_devkit_t12.tar.gz", root.with_name("devkit"))
    for path in sorted(devkit.glob("*/data/*.txt")):
        shutil.move(path, root)
    shutil.move(devkit / "ILSVRC2012_devkit_t12", root)
    (root / "ILSVRC2012_devkit_t12.tar.gz").unlink()


@pytest.mark.parametrize("unpack", [flat, flat_in_kaggle, in_classes, in_classes_without_truth, truth_beside])
def test_every_layout_of_the_validation_images_gives_the_same_shards(
    unpack: Callable[[Path, Any], None], tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any, shown: Any
) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    whole = write_set(tmp_path / "whole", open_listed("ilsvrc2012", official.root, "val"), "val", CONFIG)
    unpack(official.root, official)
    archive(official.root, "ilsvrc2012", "val").unlink()
    assert IlsvrcSource(kind="ilsvrc2012", path=official.root).open(tmp_path).splits()["val"] is None
    directory = write_set(tmp_path / "again", open_listed("ilsvrc2012", official.root, "val"), "val", CONFIG)
    assert stored(directory, shown) == official.shown["val"]
    assert bytes_of(directory) == bytes_of(whole)


# Files that are missing or do not fit.


@pytest.mark.parametrize(
    ("kind", "gone", "missing"),
    [
        ("ilsvrc2012", [], {}),
        ("ilsvrc2010", [], {}),
        (
            "ilsvrc2012",
            ["ILSVRC2012_img_train.tar"],
            {"train": "^no ILSVRC2012_img_train.tar in .*; expected ILSVRC2012_img_train.tar or"},
        ),
        (
            "ilsvrc2012",
            ["ILSVRC2012_img_test_v10102019.tar"],
            {"test": r"^no ILSVRC2012_img_test_v.*\.tar in.* or ILSVRC2012_img_test\*\.tar or"},
        ),
        (
            "ilsvrc2012",
            ["ILSVRC2012_devkit_t12.tar.gz"],
            dict.fromkeys(("train", "val", "test"), r"^no ILSVRC2012_devkit_t12\* in"),
        ),
        (
            "ilsvrc2010",
            ["ILSVRC2010_test_ground_truth.txt"],
            {"test": "^no ILSVRC2010_test_ground_truth.txt, which labels its images, in .*archives or in the devkit$"},
        ),
        ("ilsvrc2010", ["patch_images.tar"], {}),
    ],
)
def test_the_splits_name_the_missing_file(
    kind: str, gone: list[str], missing: dict[str, str], tmp_path: Path, write_official: Any
) -> None:
    official = write_official(tmp_path / "archives", kind)
    for name in gone:
        (official.root / name).unlink()
    splits = IlsvrcSource.model_validate({"kind": kind, "path": official.root}).open(tmp_path).splits()
    assert list(splits) == ["train", "val", "test"]
    assert {split for split, reason in splits.items() if reason is not None} == set(missing)
    for split, pattern in missing.items():
        assert re.search(pattern, splits[split])


def truth(root: Path, text: bytes) -> None:
    (root / "ILSVRC2012_validation_ground_truth.txt").write_bytes(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"3\n1\n", "validation_ground_truth.txt has 2 lines but there are 10 images; it is for another set, or was cut$"),
        (b"1\n" * 11, "has 11 lines but there are 10 images"),
        (b"", "has 0 lines but there are 10 images"),
        (b"1\n" * 9 + b"6\n", "truth.txt, line 10: found '6', expected an ILSVRC ID from 1 to 5$"),
        (b"0\n" + b"1\n" * 9, "truth.txt, line 1: found '0', expected an ILSVRC ID from 1 to 5$"),
        (b"1\n" * 4 + b"-1\n" + b"1\n" * 5, "truth.txt, line 5: found '-1'"),
        (b"1\n" * 4 + b"n01440764\n" + b"1\n" * 5, "truth.txt, line 5: found 'n01440764'"),
        (b"1\n" * 4 + b"\xff\xfe\n" + b"1\n" * 5, "truth.txt, line 5: found "),
        (b"1\n" * 4 + b"1.0\n" + b"1\n" * 5, "truth.txt, line 5: found '1.0'"),
    ],
)
def test_an_impossible_truth_is_refused(
    text: bytes, message: str, tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    truth(official.root, text)
    with pytest.raises(InputError, match=message):
        open_listed("ilsvrc2012", official.root, "val").samples("val")


def test_flat_images_without_a_truth_are_refused(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2010")
    (official.root / "ILSVRC2010_test_ground_truth.txt").unlink()
    with pytest.raises(InputError, match="^no ILSVRC2010_test_ground_truth.txt, which labels its images, in"):
        open_listed("ilsvrc2010", official.root, "test").samples("test")


def test_class_folders_that_contradict_the_truth_are_refused(tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    in_classes(official.root, official)
    archive(official.root, "ilsvrc2012", "val").unlink()
    truth(official.root, b"1\n2\n3\n4\n5\n1\n2\n3\n4\n5\n")
    with pytest.raises(
        InputError, match="^the class folders of .*/val contradict .*truth.txt; unpack the official archive again$"
    ):
        open_listed("ilsvrc2012", official.root, "val").samples("val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "unknown",
            "holds images in 1 folders or tars that are none of its classes, such as 'n09999999'; expected one for each WNID",
        ),
        ("missing", "holds no image of 1 of the 5 classes, such as n01440764; it is incomplete, fetch it again$"),
        ("loose", "holds images in 1 folders or tars that are none of its classes, such as 'train'"),
    ],
)
def test_classes_other_than_those_of_the_devkit_are_refused(
    change: str, message: str, tmp_path: Path, write_official: Any, open_listed: Any, tar: Any, picture: Any
) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    wnids = {"unknown": [*SORTED_WNIDS, "n09999999"], "missing": SORTED_WNIDS[1:], "loose": SORTED_WNIDS}[change]
    files = [(f"{wnid}.tar", tar([(f"{wnid}_1.JPEG", picture(1))])) for wnid in wnids]
    files += [("train/loose.JPEG", picture(2))] if change == "loose" else []
    archive(official.root, "ilsvrc2012", "train").write_bytes(tar(files))
    with pytest.raises(InputError, match=message):
        open_listed("ilsvrc2012", official.root).samples("train")


def identities(dataset: Dataset) -> list[dict[str, Any]]:
    return [dataset.identity(split) for split in ("train", "val", "test")]


def test_a_changed_archive_truth_or_devkit_is_another_input(tmp_path: Path, write_official: Any, meta: Any) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    source = IlsvrcSource(kind="ilsvrc2012", path=official.root)
    before = identities(source.open(tmp_path))
    assert identities(source.open(tmp_path)) == before
    truth(official.root, b"1\n" * 10)
    after = identities(source.open(tmp_path))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    with open(archive(official.root, "ilsvrc2012", "test"), "ab") as file:
        file.write(bytes(512))
    assert [a == b for a, b in zip(after, identities(source.open(tmp_path)), strict=True)] == [True, True, False]


def test_moved_archives_are_the_same_input(tmp_path: Path, write_official: Any) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2010")
    before = identities(IlsvrcSource(kind="ilsvrc2010", path=official.root).open(tmp_path))
    moved = official.root.rename(tmp_path / "moved")
    assert identities(IlsvrcSource(kind="ilsvrc2010", path=moved).open(tmp_path)) == before


@pytest.mark.parametrize("name", ["ILSVRC2012_img_test.md5", "ILSVRC2012_devkit_t12.txt", "ILSVRC2012_img_train.tar.part"])
def test_other_files_beside_the_archives_are_ignored(name: str, tmp_path: Path, write_official: Any, open_listed: Any) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    (official.root / name).write_text("no archive")
    archive(official.root, "ilsvrc2012", "test").unlink()
    dataset = open_listed("ilsvrc2012", official.root, "val")
    assert dataset.splits()["test"] is not None
    assert len(dataset.samples("val")) == 10


def test_the_test_archive_patched_in_2019_is_preferred_and_said(
    tmp_path: Path, write_official: Any, open_listed: Any, tar: Any, picture: Any
) -> None:
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    assert open_listed("ilsvrc2012", official.root, "test").found("test") is None
    (official.root / "ILSVRC2012_img_test.tar").write_bytes(tar([("test/ILSVRC2012_test_00000001.JPEG", picture(500))]))
    dataset = open_listed("ilsvrc2012", official.root, "test")
    assert [path.name for path in dataset.archives("test")] == ["ILSVRC2012_img_test_v10102019.tar"]
    assert dataset.found("test") == "reading ILSVRC2012_img_test_v10102019.tar and not ILSVRC2012_img_test.tar"
    assert dataset.found("val") is None
    (official.root / "ILSVRC2012_img_test_v10102019.tar").unlink()
    assert len(open_listed("ilsvrc2012", official.root, "test").samples("test")) == 1


@pytest.mark.parametrize(("kind", "split"), [case for case in EVERY if case != ("ilsvrc2012", "test")])
def test_a_list_chooses_the_classes(
    kind: str, split: str, tmp_path: Path, write_official: Any, open_listed: Any, write_set: Any
) -> None:
    official = write_official(tmp_path / "archives", kind)
    wnids = SORTED_WNIDS[1:4]
    (tmp_path / "wnids.txt").write_text("\n".join(wnids))
    dataset = open_listed(kind, official.root, split, wnids=tmp_path / "wnids.txt")
    shards = ShardSet.open(write_set(tmp_path / "shards", dataset, split, CONFIG))
    assert shards.wnids == wnids
    assert list(shards.classes["ilsvrc_id"]) == ILSVRC_IDS[1:4]
    expected = {name: wnid for name, (wnid, _) in official.shown[split].items() if wnid in wnids}
    assert dict(zip(shards.samples["name"], shards.samples["wnid"], strict=True)) == expected
    assert dataset.passed_over(split)["images of classes that wnids.txt does not list"] == len(official.shown[split]) - len(
        expected
    )
    assert dataset.name.startswith(f"{kind}-3-")
    assert dataset.official_count(split) is None
    assert dataset.identity(split) != open_listed(kind, official.root, split).identity(split)


def test_a_list_of_classes_leaves_out_the_test_images_of_2012(tmp_path: Path, write_official: Any) -> None:
    (tmp_path / "wnids.txt").write_text("\n".join(SORTED_WNIDS[:2]))
    official = write_official(tmp_path / "archives", "ilsvrc2012")
    source = IlsvrcSource(kind="ilsvrc2012", path=official.root, wnids=tmp_path / "wnids.txt")
    reason = "its labels are not public, so wnids.txt cannot choose from its images"
    assert source.open(tmp_path).splits() == {"train": None, "val": None, "test": reason}


def test_a_listed_class_that_the_competition_does_not_have_is_refused(
    tmp_path: Path, write_official: Any, open_listed: Any
) -> None:
    (tmp_path / "wnids.txt").write_text("n01440764\nn99999999\n")
    dataset = open_listed("ilsvrc2012", write_official(tmp_path / "archives", "ilsvrc2012").root, wnids=tmp_path / "wnids.txt")
    with pytest.raises(
        InputError, match="wnids.txt names 1 of its 2 classes that .*archives does not hold, such as 'n99999999'"
    ):
        dataset.samples("train")
