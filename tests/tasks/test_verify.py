"""Sets read again: every kind of damage is named with its shard, and equal images are found wherever they lie."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from base.errors import InputError
from data_shards.datasets.folder import FolderSource
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.planning import ShardConfig
from tasks.job import Artifact
from tasks.shard import shard_split
from tasks.verify import find_duplicates, find_sets, verify_set
from tasks.workspace import Workspace

pytestmark = pytest.mark.usefixtures("forked_workers")

CONFIG = ShardConfig(storage="square64", samples_per_shard=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Return 20 images in shards of 8, 8 and 4. To be copied before anything is changed."""
    return shard_split.fn(
        SyntheticSource(train_per_class=1), "train", CONFIG, Workspace(path=tmp_path_factory.mktemp("workspace"))
    )


@pytest.fixture
def copy(made: Artifact, tmp_path: Path) -> Path:
    """Return a copy of the set, under names that tell what it is."""
    return shutil.copytree(made.path, tmp_path / "shards" / "synthetic" / "train" / made.path.name)


def rows(shards: Path, shard: str = "train-00001.tar") -> pd.DataFrame:
    samples = pd.read_parquet(shards / "samples.parquet")
    return samples[samples["shard"] == shard].reset_index(drop=True)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_an_intact_set_has_no_faults(copy: Path, tmp_path: Path) -> None:
    report = verify_set.fn(copy, True, 2, Workspace(path=tmp_path))
    assert report.faults == []
    assert str(report) == f"synthetic train: 20 images in 3 shards, {copy}: intact"


def damage_pixels(shards: Path) -> list[str]:
    row = rows(shards).iloc[3]
    overwrite(shards / row["shard"], row["offset"] + row["size"] // 2, b"\0\0\0\0")
    return [f"train-00001.tar holds a changed {row['key']}.jpg, at byte {row['offset']:,}"]


def damage_label(shards: Path) -> list[str]:
    row = rows(shards).iloc[2]
    overwrite(shards / row["shard"], row["offset"] + -(-row["size"] // 512) * 512 + 512, b"X")
    return [f"train-00001.tar does not label {row['key']} as class {row['class_index']}"]


def damage_header(shards: Path) -> list[str]:
    row = rows(shards).iloc[0]
    overwrite(shards / row["shard"], row["offset"] - 512, b"Z")
    return [f"train-00001.tar does not hold {row['key']}.jpg at byte 512 as listed"]


def damage_padding(shards: Path) -> list[str]:
    overwrite(shards / "train-00001.tar", (shards / "train-00001.tar").stat().st_size - 1, b"1")
    return ["train-00001.tar differs from its checksum in the manifest, in a header or after its last member"]


def cut_tar(shards: Path) -> list[str]:
    tar = shards / "train-00002.tar"
    size, last = tar.stat().st_size, rows(shards, tar.name).iloc[-1]
    with open(tar, "r+b") as file:
        file.truncate(last["offset"] + 10)
    faults = [
        f"does not label {last['key']} as class {last['class_index']}",
        f"holds a changed {last['key']}.jpg, at byte {last['offset']:,}",
        f"holds {last['offset'] + 10:,} bytes, expected {size:,}",
    ]
    return sorted(f"train-00002.tar {fault}" for fault in faults)


def lengthen_tar(shards: Path) -> list[str]:
    with open(shards / "train-00000.tar", "ab") as file:
        size = file.tell()
        file.write(bytes(512))
    return [f"train-00000.tar holds {size + 512:,} bytes, expected {size:,}"]


def empty_tar(shards: Path) -> list[str]:
    (shards / "train-00000.tar").write_bytes(b"")
    return ["train-00000.tar is empty"]


def remove_tar(shards: Path) -> list[str]:
    (shards / "train-00000.tar").unlink()
    return ["train-00000.tar is missing"]


def remove_index(shards: Path) -> list[str]:
    (shards / "train-00000.idx").unlink()
    return ["train-00000.idx is missing"]


def move_offset(shards: Path) -> list[str]:
    index = shards / "train-00001.idx"
    index.write_text(index.read_text().replace("jpg 512 ", "jpg 1024 "))
    return ["train-00001.idx differs from samples.parquet"]


def two_shards(shards: Path) -> list[str]:
    return sorted(damage_pixels(shards) + remove_tar(shards))


@pytest.mark.parametrize(
    "damage",
    [
        *(damage_pixels, damage_label, damage_header, damage_padding, cut_tar, lengthen_tar, empty_tar),
        *(remove_tar, remove_index, move_offset, two_shards),
    ],
)
def test_damage_is_named_with_its_shard(damage: Callable[[Path], list[str]], copy: Path, tmp_path: Path) -> None:
    expected = damage(copy)
    assert verify_set.fn(copy, False, 1, Workspace(path=tmp_path)).faults == expected


def test_damaged_lists_are_named_and_nothing_is_built_on_them(copy: Path, tmp_path: Path) -> None:
    overwrite(copy / "samples.parquet", 100, b"\0\0\0\0")
    (copy / "notes.txt").write_text("mine")
    assert verify_set.fn(copy, False, 2, Workspace(path=tmp_path)).faults == [
        f"{copy}/samples.parquet was changed after it was written",
        f"{copy}/notes.txt is not in the manifest",
        "its shards were not read: restore the lists first, or delete the set to make it again",
    ]


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no readable manifest.json, so it is not a finished artefact"):
        verify_set.fn(tmp_path, False, 1, Workspace(path=tmp_path))


@pytest.fixture
def leaking(picture: Any, tmp_path: Path) -> dict[str, Path]:
    """Return the sets of a folder whose images are partly the same: within train, between classes, between train and val."""
    layout = {
        "train/a/1.jpg": 1,
        "train/a/2.jpg": 2,
        "train/a/2 again.jpg": 2,
        "train/b/3.jpg": 3,
        "train/b/4.jpg": 4,
        "val/a/5.jpg": 5,
        "val/a/4 as a.jpg": 4,
        "val/b/6.jpg": 6,
        "val/b/3.jpg": 3,
    }
    for name, number in layout.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(picture(number))
    source = FolderSource(path=tmp_path / "images")
    return {
        split: shard_split.fn(source, split, CONFIG, Workspace(path=tmp_path / "workspace")).path for split in ("train", "val")
    }


def test_equal_images_are_found_within_and_between_splits(leaking: dict[str, Path], tmp_path: Path) -> None:
    assert find_sets(Workspace(path=tmp_path / "workspace")) == [leaking["train"], leaking["val"]]
    found = find_duplicates.fn(leaking, Workspace(path=tmp_path / "workspace"))
    assert found.counts == {"duplicate_images": 6, "groups": 3, "groups_in_several_sets": 2, "groups_in_several_classes": 1}
    rows = pd.read_parquet(found.path / "duplicates.parquet")
    groups = {frozenset(zip(group["set"], group["name"], strict=True)) for _, group in rows.groupby("source_sha256")}
    assert groups == {
        frozenset({("train", "2.jpg"), ("train", "2 again.jpg")}),
        frozenset({("train", "4.jpg"), ("val", "4 as a.jpg")}),
        frozenset({("train", "3.jpg"), ("val", "3.jpg")}),
    }
    assert find_duplicates.fn(leaking, Workspace(path=tmp_path / "workspace")) == found


def test_equal_images_in_other_storage_are_still_equal(leaking: dict[str, Path], tmp_path: Path) -> None:
    source = FolderSource(path=tmp_path / "images")
    original = ShardConfig(storage="original")
    val = shard_split.fn(source, "val", original, Workspace(path=tmp_path / "workspace")).path
    found = find_duplicates.fn({"train": leaking["train"], "val": val}, Workspace(path=tmp_path / "workspace"))
    assert found.counts["groups_in_several_sets"] == 2


def test_where_nothing_is_equal_the_list_is_empty(made: Artifact, tmp_path: Path) -> None:
    found = find_duplicates.fn({"train": made.path}, Workspace(path=tmp_path))
    assert found.counts == {"duplicate_images": 0, "groups": 0, "groups_in_several_sets": 0, "groups_in_several_classes": 0}
    assert len(pd.read_parquet(found.path / "duplicates.parquet")) == 0
