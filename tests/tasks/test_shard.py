"""The sharding steps, outside of Prefect: made once, found again, and left alone where something else is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest

from base.errors import InputError
from data_shards.datasets.folder import FolderSource
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet
from model.network.inputs import Colours
from tasks.artifacts import find, read_manifest
from tasks.colours import measure_colours
from tasks.job import Artifact
from tasks.shard import dataset_name, shard_split
from tasks.workspace import Workspace

pytestmark = pytest.mark.usefixtures("forked_workers")

SOURCE = SyntheticSource(train_per_class=1, val_per_class=1)
CONFIG = ShardConfig(storage="square64", samples_per_shard=16)


def times(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of change of everything below a folder."""
    stats = {str(path): path.stat() for path in folder.rglob("*")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def made(workspace: Path) -> Artifact:
    """Return the training shards of the workspace that these tests share, with one thing in the way when they were made."""
    stale = workspace / "shards" / "synthetic" / "train" / "0123456789ab.partial"
    stale.mkdir(parents=True)
    (stale / "train-00000.tar").write_text("what a killed run left")
    return shard_split.fn(SOURCE, "train", CONFIG, Workspace(path=workspace))


def test_a_split_is_sharded_into_its_place(made: Artifact, workspace: Path) -> None:
    assert made.path.parent == workspace / "shards" / "synthetic" / "train"
    assert made.counts == {"images": 20, "classes": 20, "shards": 2, "mended": 0, "turned": 0, "bad_images": 0}
    assert dataset_name(made) == "synthetic"
    assert len(ShardSet.open(made.path)) == 20
    assert sorted(read_manifest(made.path).files) == [
        *("_info.json", "classes.parquet", "counts.json", "job.json", "samples.parquet"),
        *(f"train-0000{number}.{suffix}" for number in (0, 1) for suffix in ("idx", "tar")),
    ]
    assert find(made.path) == made


def test_shards_that_are_there_are_found_and_not_touched(made: Artifact, workspace: Path) -> None:
    before = times(workspace)
    assert shard_split.fn(SOURCE, "train", CONFIG, Workspace(path=workspace)) == made
    assert times(workspace) == before


def test_what_a_killed_run_left_is_swept_away_when_its_step_is_made(made: Artifact, tmp_path: Path) -> None:
    stale = tmp_path / made.path.relative_to(made.path.parents[3]).with_name(f"{made.path.name}.partial")
    stale.mkdir(parents=True)
    (stale / "train-00009.tar").write_text("half a shard")
    again = shard_split.fn(SOURCE, "train", CONFIG, Workspace(path=tmp_path))
    assert again.path.name == made.path.name
    assert again.digest == made.digest, "the same source and config made other bytes"
    assert [path.name for path in again.path.parent.iterdir()] == [again.path.name]
    assert "train-00009.tar" not in read_manifest(again.path).files


def test_another_side_is_a_second_set_beside_the_first(made: Artifact, workspace: Path) -> None:
    before = times(made.path)
    other = shard_split.fn(SOURCE, "train", CONFIG.model_copy(update={"storage": "square80"}), Workspace(path=workspace))
    assert other.path.parent == made.path.parent
    assert other.path != made.path
    assert (ShardSet.open(other.path).side, ShardSet.open(made.path).side) == (80, 64)
    assert times(made.path) == before
    assert find(made.path) == made


def test_damaged_shards_are_refused_and_not_made_again_unasked(tmp_path: Path) -> None:
    made = shard_split.fn(SOURCE, "val", CONFIG, Workspace(path=tmp_path))
    (made.path / "val-00001.tar").unlink()
    with pytest.raises(
        InputError, match=f"val-00001.tar is missing, its manifest says .* bytes; delete {made.path} to make it"
    ):
        shard_split.fn(SOURCE, "val", CONFIG, Workspace(path=tmp_path))


def test_bad_input_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/2.jpg"):
        (tmp_path / "images" / "train" / name).parent.mkdir(parents=True)
        (tmp_path / "images" / "train" / name).write_text("no image")
    source = FolderSource(path=tmp_path / "images")
    message = (
        r"^2 images cannot be decoded, of those read so far:\n"
        r"  1.jpg, class a \(.*/a/1.jpg\): not an image; it begins with b'no image'\n"
        r"  2.jpg, class b .*\nrepair or remove the files, or set bad_images to report to leave such images out and list them$"
    )
    with pytest.raises(InputError, match=message):
        shard_split.fn(source, "train", CONFIG, Workspace(path=tmp_path / "workspace"))
    left = sorted((tmp_path / "workspace" / "shards" / "images" / "train").iterdir())
    assert [path.suffix for path in left] == [".partial"]
    assert sorted(path.name for path in left[0].iterdir()) == ["job.json", "work"]


def test_colours_are_measured_and_found_again(made: Artifact, workspace: Path) -> None:
    artifact = measure_colours.fn(made, Workspace(path=workspace))
    assert artifact.path.parent == workspace / "colours"
    assert artifact.counts == {"images": 20}
    colours = Colours.model_validate(json.loads((artifact.path / "colours.json").read_text()))
    assert colours.num_images == 20
    assert all(50 < mean < 200 for mean in colours.mean)
    assert np.square(colours.components).sum() == pytest.approx(3)
    before = times(workspace)
    assert measure_colours.fn(made, Workspace(path=workspace)) == artifact
    assert times(workspace) == before
