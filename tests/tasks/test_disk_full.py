"""A disk that fills up while shards are written to it: a real one, of two megabytes."""

import re
import subprocess
import sys
from pathlib import Path

from data_shards.datasets.source import Source
from data_shards.planning import ShardConfig, plan_shards
from tasks.artifacts import ROOT
from tasks.workers.guard import EXIT_BAD_INPUT
from tasks.workers.jobs import ShardJob


def job(tmp_path: Path, train_per_class: int) -> None:
    source = Source(kind="synthetic", train_per_class=train_per_class)
    config = ShardConfig(storage="square128", samples_per_shard=20)
    disk, sources = tmp_path / "disk", tmp_path / "sources"
    plan = plan_shards(source.open(sources), "train", config, tmp_path)
    written = ShardJob(
        source=source,
        split="train",
        config=config,
        unpack_dir=sources,
        lists={},
        directory=disk,
        work=disk,
        start=0,
        stop=len(plan),
        step=1,
    )
    (tmp_path / "job.json").write_text(written.model_dump_json())


def shard(tmp_path: Path, begin: list[str]) -> subprocess.CompletedProcess[str]:
    command = [*begin, sys.executable, "-m", "tasks.workers.shard", str(tmp_path / "disk" / "job.json")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_full_disk_ends_the_work_with_one_sentence(tmp_path: Path, in_small_disk: list[str]) -> None:
    job(tmp_path, train_per_class=40)
    ended = shard(tmp_path, in_small_disk)
    assert ended.returncode == EXIT_BAD_INPUT == 3
    last = ended.stdout.splitlines()[-1]
    assert last == f"error: the disk that holds {tmp_path}/disk is full; free some space and run again: finished steps are kept"
    assert ended.stderr == ""


def test_what_fits_on_the_small_disk_is_written(tmp_path: Path, in_small_disk: list[str]) -> None:
    job(tmp_path, train_per_class=1)
    ended = shard(tmp_path, in_small_disk)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"\+ 20 \d+\n", ended.stdout)
