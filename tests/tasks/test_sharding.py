"""Whole sets from archives: killed and gone on with, by few processes or many, with bad images, and held against their MD5s."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import TypeAdapter

from base.errors import InputError
from data_shards.datasets.fall import FallSource
from data_shards.datasets.source import AnySource
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet
from tasks.artifacts import read_manifest
from tasks.checksums import check_md5
from tasks.code import ROOT
from tasks.job import Artifact
from tasks.shard import shard_split
from tasks.workspace import Workspace

pytestmark = pytest.mark.usefixtures("forked_workers")

MANY = SyntheticSource(train_per_class=20)
SMALL_SHARDS = ShardConfig(storage="square64", samples_per_shard=20)
"""20 of them."""

PROGRAM = """
import sys
from pathlib import Path
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.planning import ShardConfig
from tasks.shard import shard_split
from tasks.workspace import Workspace
source, config = SyntheticSource.model_validate_json(sys.argv[1]), ShardConfig.model_validate_json(sys.argv[2])
shard_split.fn(source, "train", config, Workspace(path=Path(sys.argv[3])), int(sys.argv[4]))
"""


def files(path: Path) -> dict[str, bytes]:
    """Return what a set holds, but for what tells how it was made."""
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name not in ("job.json", "manifest.json")}


def start(workspace: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, MANY.model_dump_json(), SMALL_SHARDS.model_dump_json(), str(workspace), "2"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Return the set of one run that nobody disturbed, made by one process."""
    return shard_split.fn(MANY, "train", SMALL_SHARDS, Workspace(path=tmp_path_factory.mktemp("unbroken")), 1)


def test_killed_again_and_again_it_goes_on_and_ends_with_the_same_bytes(
    unbroken: Artifact, tmp_path: Path, processes: Callable[[Path], dict[int, str]], wait_for: Any
) -> None:
    def parts() -> dict[Path, int]:
        return {part: part.stat().st_mtime_ns for part in tmp_path.glob("shards/*/*/*.partial/work/parts/*.parquet")}

    for wanted in sorted(random.sample(range(2, 17), 3)):
        killed = start(tmp_path)
        while len(parts()) < wanted:
            assert killed.poll() is None, "the program ended before it could be killed"
            time.sleep(0.005)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        wait_for(lambda: not processes(tmp_path), "the processes that write shards outlive the program")
    before, tars = parts(), {tar: tar.stat().st_mtime_ns for tar in tmp_path.glob("shards/*/*/*.partial/*.tar")}
    finished = shard_split.fn(MANY, "train", SMALL_SHARDS, Workspace(path=tmp_path), 3)
    for part in before:
        tar = next(tar for tar in tars if tar.name == part.stem)
        assert (finished.path / tar.name).stat().st_mtime_ns == tars[tar], "a shard that was there was written again"
    assert finished.digest == unbroken.digest
    assert files(finished.path) == files(unbroken.path)
    assert [path.name for path in finished.path.parent.iterdir()] == [finished.path.name]


@pytest.mark.parametrize("change", [{"storage": "shorter64"}, {"seed": 1}])
def test_another_config_is_another_set_beside_the_first(unbroken: Artifact, change: dict[str, Any], tmp_path: Path) -> None:
    few = MANY.model_copy(update={"train_per_class": 1})
    first = shard_split.fn(few, "train", SMALL_SHARDS, Workspace(path=tmp_path))
    before = files(first.path)
    second = shard_split.fn(few, "train", SMALL_SHARDS.model_copy(update=change), Workspace(path=tmp_path))
    assert second.path.parent == first.path.parent
    assert second.path != first.path
    assert files(first.path) == before


def test_official_archives_become_sets_and_are_found_again(write_official: Any, tmp_path: Path) -> None:
    config = ShardConfig(storage="square64", samples_per_shard=10)
    for kind, split, num_images in (("ilsvrc2010", "train", 25), ("ilsvrc2012", "test", 6), ("fall2011", "train", 114)):
        source = TypeAdapter(AnySource).validate_python({"kind": kind, "path": write_official(tmp_path / kind, kind).root})
        made = shard_split.fn(source, split, config, Workspace(path=tmp_path / "workspace"))
        assert made.path.parent == tmp_path / "workspace" / "shards" / kind / split
        assert made.counts["images"] == num_images == len(ShardSet.open(made.path))
        assert shard_split.fn(source, split, config, Workspace(path=tmp_path / "workspace")) == made
    lists = [path.parent.parent.name for path in (tmp_path / "workspace" / "members").glob("*/*/members.parquet")]
    assert sorted(lists) == [
        *("ILSVRC2010_images_train.tar", "ILSVRC2012_img_test_v10102019.tar", "fall11_whole.tar", "patch_images.tar")
    ]


def test_a_changed_archive_is_another_set(write_official: Any, tar: Any, picture: Any, tmp_path: Path) -> None:
    root = write_official(tmp_path / "official", "fall2009").root
    source = FallSource(kind="fall2009", path=root)
    config = ShardConfig(storage="original")
    first = shard_split.fn(source, "train", config, Workspace(path=tmp_path / "workspace"))
    before = files(first.path)
    archive = root / "n02487347.tar"
    archive.write_bytes(tar([("n02487347_0.JPEG", picture(500))]))
    second = shard_split.fn(source, "train", config, Workspace(path=tmp_path / "workspace"))
    assert second.path != first.path
    assert files(first.path) == before


def test_the_manifest_knows_the_tars_as_they_are(unbroken: Artifact) -> None:
    manifest = read_manifest(unbroken.path)
    assert set(manifest.files) == {*files(unbroken.path), "job.json"}
    for name, entry in manifest.files.items():
        data = (unbroken.path / name).read_bytes()
        assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    info = json.loads((unbroken.path / "_info.json").read_text())["splits"]["train"]
    assert info["num_samples"] == sum(info["shard_lengths"]) == 400
    assert info["filenames"] == sorted(path.name for path in unbroken.path.glob("*.tar"))


@pytest.fixture
def damaged(tar: Any, picture: Any, tmp_path: Path) -> FallSource:
    """Return Fall 2011, of which nothing is held out where classes are small, with three images that cannot be decoded."""
    root = tmp_path / "official"
    root.mkdir()
    good = [(f"n01440764_{n}.JPEG", picture(n)) for n in range(4)]
    bad = [("n01440764_90.JPEG", b""), ("n01440764_91.JPEG", picture(9)[:300])]
    (root / "n01440764.tar").write_bytes(tar(good[:2] + bad + good[2:]))
    (root / "n02487347.tar").write_bytes(tar([("n02487347_8.JPEG", picture(8)), ("n02487347_9.JPEG", b"<html>")]))
    return FallSource(kind="fall2011", path=root)


def test_bad_images_stop_the_run_and_are_all_named_with_archive_and_offset(damaged: FallSource, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^3 images cannot be decoded, of those read so far:\n") as caught:
        shard_split.fn(damaged, "train", ShardConfig(storage="square64"), Workspace(path=tmp_path / "workspace"))
    _, *named, advice = str(caught.value).splitlines()
    assert advice == "fetch the archive again, or set bad_images to report to leave such images out and list them"
    first, second = (f"{damaged.path}/{wnid}.tar at byte" for wnid in ("n01440764", "n02487347"))
    assert sorted(named) == [
        f"  n01440764_90.JPEG, class n01440764 ({first} 3,584): the file is empty",
        f"  n01440764_91.JPEG, class n01440764 ({first} 4,096): the JPEG is cut short before its pixels",
        f"  n02487347_9.JPEG, class n02487347 ({second} 2,048): not an image; it begins with b'<html>'",
    ]
    assert not list((tmp_path / "workspace").glob("shards/*/*/*/manifest.json"))


def test_a_set_whose_begun_shards_were_deleted_is_made_from_the_start(damaged: FallSource, tmp_path: Path) -> None:
    strict, lenient = (ShardConfig(storage="square64", samples_per_shard=3, bad_images=how) for how in ("error", "report"))
    with pytest.raises(InputError, match="images cannot be decoded"):
        shard_split.fn(damaged, "train", strict, Workspace(path=tmp_path))
    (partial,) = tmp_path.glob("shards/*/*/*.partial")
    shutil.rmtree(partial)
    made = shard_split.fn(damaged, "train", lenient, Workspace(path=tmp_path))
    assert len(ShardSet.open(made.path)) == 5


def test_left_out_images_are_listed_and_counted_and_the_run_goes_on_from_its_error(damaged: FallSource, tmp_path: Path) -> None:
    strict, lenient = (ShardConfig(storage="square64", samples_per_shard=3, bad_images=how) for how in ("error", "report"))
    with pytest.raises(InputError, match="images cannot be decoded, of those read so far:"):
        shard_split.fn(damaged, "train", strict, Workspace(path=tmp_path))
    made = shard_split.fn(damaged, "train", lenient, Workspace(path=tmp_path))
    assert made.counts == {"images": 5, "classes": 2, "shards": 3, "mended": 0, "turned": 0, "bad_images": 3}
    bad = pd.read_parquet(made.path / "bad_images.parquet").set_index("name")
    assert set(bad.index) == {"n01440764_90.JPEG", "n01440764_91.JPEG", "n02487347_9.JPEG"}
    assert bad.loc["n01440764_90.JPEG", "reason"] == "the file is empty"
    assert bad.loc["n02487347_9.JPEG", "source_offset"] == 2048
    with pytest.raises(InputError, match=r"leaves out 3 images that cannot be decoded, listed in its bad_images.parquet"):
        shard_split.fn(damaged, "train", strict, Workspace(path=tmp_path))


def test_archives_are_held_against_their_md5s_once(write_official: Any, tmp_path: Path) -> None:
    root = write_official(tmp_path / "official", "ilsvrc2012").root
    names = ["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"]
    lines = [f"{hashlib.md5((root / name).read_bytes()).hexdigest()}  {name}" for name in names]
    sums = tmp_path / "sums.md5"
    sums.write_text("\n".join([*lines, f"{'0' * 32} *of_another_release.tar", ""]))
    made = check_md5.fn(root, sums, Workspace(path=tmp_path / "workspace"))
    assert [artifact.path.parent.name for artifact in made] == names
    before = [artifact.path.stat().st_mtime_ns for artifact in made]
    assert check_md5.fn(root, sums, Workspace(path=tmp_path / "workspace")) == made
    assert [artifact.path.stat().st_mtime_ns for artifact in made] == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{'0' * 32}  ILSVRC2012_img_val.tar\n",
            r"ILSVRC2012_img_val.tar has the MD5 [0-9a-f]{32}, expected 0{32}; download it again",
        ),
        (f"{'0' * 32}  elsewhere.tar\n", r"names no file of .*; it names elsewhere.tar"),
        ("ILSVRC2012_img_val.tar\n", r"cannot be read as a list of MD5s \(.*\); expected lines as md5sum writes them"),
        ("29b22  ILSVRC2012_img_val.tar\n", r"is not a list of MD5s; expected lines as md5sum writes them: 32 digits"),
        ("", r"is not a list of MD5s"),
    ],
)
def test_a_wrong_md5_or_list_is_refused(text: str, message: str, write_official: Any, tmp_path: Path) -> None:
    root = write_official(tmp_path / "official", "ilsvrc2012").root
    (tmp_path / "sums.md5").write_text(text)
    with pytest.raises(InputError, match=message):
        check_md5.fn(root, tmp_path / "sums.md5", Workspace(path=tmp_path / "workspace"))
