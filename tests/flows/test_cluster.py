"""Sharding by the workers of a real Dask cluster: a scheduler and two worker processes on this machine."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from distributed import Client
from prefect.settings import PREFECT_API_URL, temporary_settings

from base.errors import InputError
from data_shards.datasets.folder import FolderSource
from data_shards.planning import ShardConfig
from flows.presets import DEMO
from tasks.artifacts import read_manifest
from tasks.code import ROOT
from tasks.shard import shard_split
from tasks.workspace import Workspace


@pytest.fixture
def environment(prefect_server: str, tmp_path: Path) -> dict[str, str]:
    """Return what a shell has where a Prefect server runs."""
    return {**os.environ, "PREFECT_API_URL": prefect_server, "PREFECT_HOME": str(tmp_path / "home")}


@pytest.fixture
def cluster(environment: dict[str, str]) -> Iterator[str]:
    """Return the address of a scheduler that two worker processes report to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard"]
    worker = ["worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen([sys.executable, "-m", "dask", *command], cwd=ROOT, env=environment, **quiet)
        for command in (scheduler, worker, worker)
    ]
    try:
        with Client(address, timeout="60s", set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def test_two_workers_of_a_cluster_write_the_same_set_as_processes_here(
    cluster: str, program: Callable[..., subprocess.CompletedProcess[str]], picture: Callable[[int], bytes], tmp_path: Path
) -> None:
    for number in range(40):
        image = tmp_path / "images" / "train" / f"n{number % 4:08d}" / f"{number}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(picture(number))
    options = [
        "--dataset",
        "folder",
        "--archives",
        tmp_path / "images",
        "--splits",
        "train",
        "--storage",
        "square72",
        "--samples-per-shard",
        10,
    ]
    done = program("flows.shard", *options, "--workspace", tmp_path / "there", "--cluster", cluster)
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    (there,) = (tmp_path / "there" / "shards" / "images" / "train").iterdir()
    config = ShardConfig(storage="square72", samples_per_shard=10)
    source = FolderSource(path=tmp_path / "images")
    here = shard_split.fn(source, "train", config, Workspace(path=tmp_path / "here"))
    assert read_manifest(there).digest == here.digest
    assert len(pd.read_parquet(there / "samples.parquet")) == 40
    with Client(cluster, set_as_default=False) as client:
        assert set(client.run(lambda: "prefect_dask" in sys.modules).values()) == {True}, "both workers took part"


def test_a_cluster_needs_a_server_that_its_workers_reach(tmp_path: Path) -> None:
    with (
        temporary_settings({PREFECT_API_URL: None}),
        pytest.raises(
            InputError, match="^the workers of a cluster report to a Prefect server that they can all reach; start one"
        ),
    ):
        shard_split.fn(DEMO.target, "val", ShardConfig(), Workspace(path=tmp_path, cluster="tcp://127.0.0.1:9"))
    assert not list(tmp_path.iterdir())


def test_an_address_without_a_scheduler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.cluster.SECONDS_TO_CONNECT", 1)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(InputError, match=r"^no Dask scheduler answers at tcp://127\.0\.0\.1:9; start one: "),
    ):
        shard_split.fn(DEMO.target, "val", ShardConfig(), Workspace(path=tmp_path, cluster="tcp://127.0.0.1:9"))
    assert not list(tmp_path.iterdir())
