"""A disk that fills up while shards or checkpoints are written to it: a real one, of two megabytes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_shards.datasets.source import Source
from data_shards.datasets.synthetic import Synthetic
from data_shards.writing import ShardConfig, plan_shards, write_lists, write_shard
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from model.training.config import TrainConfig
from tasks.artifacts import ROOT
from tasks.workers.guard import EXIT_BAD_INPUT
from tasks.workers.jobs import ShardJob, TrainJob

NAMESPACE = ["unshare", "--mount", "--map-root-user"]


@pytest.fixture
def in_small_disk(tmp_path: Path) -> list[str]:
    """Return the beginning of a command that runs in `tmp_path / "disk"`, on a disk of its own that nobody else sees."""
    (tmp_path / "disk").mkdir()
    mount = 'mount -t tmpfs -o size=2m tmpfs "$0" && cp "$0"/../job.json "$0" && exec "$@"'
    begin = [*NAMESPACE, "sh", "-c", mount, str(tmp_path / "disk")]
    (tmp_path / "job.json").touch()
    if shutil.which("unshare") is None or subprocess.run([*begin, "true"], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs unshare and the right to use it, which this machine does not grant")
    return begin


def job(tmp_path: Path, train_per_class: int) -> None:
    source = Source(kind="synthetic", train_per_class=train_per_class)
    config = ShardConfig(side=128, samples_per_shard=20)
    written = ShardJob(source=source, split="train", config=config, unpack_dir=tmp_path / "sources", num_workers=2)
    (tmp_path / "job.json").write_text(written.model_dump_json())


def work(worker: str, tmp_path: Path, begin: list[str]) -> subprocess.CompletedProcess[str]:
    command = [*begin, sys.executable, "-m", f"tasks.workers.{worker}", str(tmp_path / "disk" / "job.json")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_full_disk_ends_the_work_with_one_sentence(tmp_path: Path, in_small_disk: list[str]) -> None:
    job(tmp_path, train_per_class=40)
    ended = work("shard", tmp_path, in_small_disk)
    assert ended.returncode == EXIT_BAD_INPUT == 3
    last = ended.stdout.splitlines()[-1]
    assert last == f"error: the disk that holds {tmp_path}/disk is full; free some space and run again: finished steps are kept"
    assert ended.stderr == ""


def test_what_fits_on_the_small_disk_is_written(tmp_path: Path, in_small_disk: list[str]) -> None:
    job(tmp_path, train_per_class=1)
    ended = work("shard", tmp_path, in_small_disk)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "20 of 20 images" in ended.stdout


def test_a_checkpoint_that_does_not_fit_ends_the_training_with_the_place_named(
    tmp_path: Path, in_small_disk: list[str]
) -> None:
    shards, dataset, config = tmp_path / "shards", Synthetic(train_per_class=1, val_per_class=1), ShardConfig(side=72)
    for split in ("train", "val"):
        (shards / split).mkdir(parents=True)
        written = [write_shard(dataset, plan, config, shards / split) for plan in plan_shards(dataset, split, config)]
        write_lists(dataset, written, shards / split)
    components = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    colours = Colours(mean=(115, 114, 116), deviations=(30, 40, 70), components=components, num_images=1)
    (shards / "colours.json").write_text(colours.model_dump_json())
    written_job = TrainJob(
        network=NetworkConfig(num_classes=20, crop=64, width=1 / 8),
        training=TrainConfig(epochs=1),
        train_shards=shards / "train",
        val_shards=shards / "val",
        colours=shards / "colours.json",
    )
    (tmp_path / "job.json").write_text(written_job.model_dump_json())
    ended = work("train", tmp_path, in_small_disk)
    assert (ended.returncode, ended.stderr) == (EXIT_BAD_INPUT, "")
    path = tmp_path / "disk" / "checkpoints" / "0000-000000020.pt"
    said = ended.stdout.splitlines()[-1]
    assert said.startswith(f"error: cannot write the checkpoint {path} ("), said
    assert said.endswith(
        "No space left on device); free some space, if that is it, and run again; "
        "in epoch 1 after 20 images, step 1, at learning rate 0.01; there is no checkpoint yet"
    ), said
