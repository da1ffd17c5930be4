"""A finished set of shards: what opens, and what is refused because part of it is missing."""

import re
import shutil
from pathlib import Path

import pytest

from base.errors import InputError
from data_shards.shard_set import ShardSet


@pytest.fixture
def copy(shards: ShardSet, tmp_path: Path) -> Path:
    """Return a copy of the shards that a test may damage."""
    return Path(shutil.copytree(shards.directory, tmp_path / "copy"))


def test_a_whole_set_opens_and_knows_itself(copy: Path) -> None:
    shards = ShardSet.open(copy)
    assert len(shards) == 60
    assert shards.side == 72
    assert shards.tars == [copy / f"train-{number:05d}.tar" for number in range(4)]
    assert shards.wnids == sorted(shards.wnids)
    assert len(shards.wnids) == 20
    assert list(shards.class_indices) == list(shards.samples["class_index"])
    assert [len(lines) for lines in shards.index_lines] == [16, 16, 16, 12]


def test_index_lines_are_in_the_order_of_the_list(shards: ShardSet) -> None:
    lines = [line for tar in shards.index_lines for line in tar]
    assert [line.split()[3].removesuffix(".jpg") for line in lines] == list(shards.samples["key"])


@pytest.mark.parametrize("name", ["samples.parquet", "classes.parquet"])
def test_a_folder_without_its_lists_is_not_a_shard_set(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"^{re.escape(str(copy))} is not a shard set: .*make one with python -m flows.shard$"):
        ShardSet.open(copy)


def test_a_missing_folder_is_not_a_shard_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is not a shard set"):
        ShardSet.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["train-00000.tar", "train-00003.tar", "train-00002.idx"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing; restore it, or delete {re.escape(str(copy))} to shard again$"):
        ShardSet.open(copy)


@pytest.mark.parametrize("share", [0, 0.3, 0.6])
def test_a_tar_that_was_cut_short_is_named(copy: Path, share: float) -> None:
    tar = copy / "train-00001.tar"
    keep = int(share * tar.stat().st_size)
    with open(tar, "r+b") as file:
        file.truncate(keep)
    message = rf"train-00001.tar holds {keep:,} bytes, but its list needs [\d,]+: it was cut short; delete .* to shard again"
    with pytest.raises(InputError, match=message):
        ShardSet.open(copy)


def test_a_tar_without_its_last_label_was_cut_short(copy: Path, shards: ShardSet) -> None:
    words = shards.index_lines[1][-1].split()
    with open(copy / "train-00001.tar", "r+b") as file:
        file.truncate(int(words[5]))
    with pytest.raises(InputError, match="it was cut short"):
        ShardSet.open(copy)
