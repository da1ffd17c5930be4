"""All jobs on the workers of a Dask cluster: three machines, as network namespaces with one disk."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.code import ROOT

pytestmark = pytest.mark.machines

STAGES = """
import json, sys
from functools import partial
from pathlib import Path
import tasks.retrieve
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from model.network.weights import WeightsInfo, save_weights
from model.retrieval.config import RetrievalConfig
from tasks.compute import choose_compute
from tasks.predict import predict_split
from tasks.shard import shard_split
from tasks.train import open_weights
from tasks.verify import verify_set
from tasks.workspace import locked

if __name__ == "__main__":
    path, cluster, stages = Path(sys.argv[1]), sys.argv[2] or None, sys.argv[3].split()
    source = SyntheticSource(train_per_class=10, val_per_class=10)
    config = ShardConfig(storage="square72", samples_per_shard=100)
    digests, compute = {}, choose_compute("cpu", 1)
    if cluster:  # here all queries are one block
        tasks.retrieve.RetrieveJob = partial(tasks.retrieve.RetrieveJob, queries_at_once=50)
    with locked(path, cluster=cluster) as workspace:
        sets = {split: shard_split.fn(source, split, config, workspace) for split in ("train", "val")}
        digests |= {split: made.digest for split, made in sets.items()}
        network = NetworkConfig(num_classes=20, crop=64, width=1 / 12)
        colours = Colours(
            mean=(115, 114, 116), deviations=(30, 40, 70), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1
        )
        networks = {}
        for seed in range(2):
            weights = path / f"{seed}.safetensors"
            info = WeightsInfo(network=network, colours=colours, wnids=ShardSet.open(sets["val"].path).wnids)
            save_weights(AlexNet(network).initialise(seed), info, weights)
            networks[str(seed)] = open_weights(weights)
        if "verify" in stages:
            digests["faults"] = verify_set.fn(sets["val"].path, True, None, workspace).faults
        if "predict" in stages:
            found = predict_split.fn(list(networks.values()), sets["val"], "val", 10, compute, workspace)
            digests["predictions"] = [made.digest for made in found]
        if "retrieve" in stages:
            settings = RetrievalConfig(bits=(28,), epochs=1, num_shown=5)
            embed = partial(tasks.retrieve.embed_split.fn, networks)
            vectors = tuple(embed(sets[part], part, settings, compute, workspace) for part in sets)
            digests["vectors"] = [{name: made.digest for name, made in some.items()} for some in vectors]
            found = tasks.retrieve.retrieve.fn(networks, (sets["train"], sets["val"]), vectors, settings, workspace)
            digests["retrieval"] = {name: made.digest for name, made in found.items()}
    print("digests", json.dumps(digests), flush=True)
"""
ALL = "verify predict retrieve"


def digests_in(said: str) -> object:
    lines = [line for line in said.splitlines() if line.startswith("digests ")]
    assert lines, said
    return json.loads(lines[-1].removeprefix("digests "))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Return the digests of everything that processes of one machine make."""
    command = [sys.executable, "-c", STAGES, str(tmp_path_factory.mktemp("here")), "", ALL]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return digests_in(done.stdout)


class Cluster:
    """A Prefect server and a Dask scheduler on the machine `head`, a worker on `one` and on `two`."""

    def __init__(self, machines, folder: Path) -> None:  # type: ignore[no-untyped-def]
        self.machines, self.folder = machines, folder
        self.address = f"tcp://{machines.address('head')}:8786"
        self.environment = {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": f"http://{machines.address('head')}:4200/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
        }
        server = ["prefect", "server", "start", "--host", machines.address("head"), "--port", "4200", "--no-ui"]
        scheduler = ["dask", "scheduler", "--host", machines.address("head"), "--no-dashboard"]
        self.processes = [self.start("head", "-m", *command, log=folder / "head.log") for command in (server, scheduler)]
        self.workers = {name: self.start_worker(name) for name in ("one", "two")}

    def start(self, name: str, *arguments: str, log: Path | None = None) -> subprocess.Popen[str]:
        return self.machines.start(name, *arguments, log=log, **self.environment)  # type: ignore[no-any-return]

    def start_worker(self, name: str) -> subprocess.Popen[str]:
        options = ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        log = self.folder / f"{name}.log"
        worker = self.start(name, "-m", "dask", "worker", self.address, *options, "--name", name, log=log)
        self.processes.append(worker)
        return worker

    def ask(self, expression: str) -> str:
        """Return what an expression of a connected client is, on the machine `head`."""
        code = f"from distributed import Client\nwith Client('{self.address}', timeout=60) as client: print({expression})"
        said = self.start("head", "-c", code).communicate(timeout=100)[0]
        return said.strip().splitlines()[-1]

    def wait_for_workers(self, *names: str) -> None:
        deadline = time.monotonic() + 300
        while (found := self.ask("sorted(w['name'] for w in client.scheduler_info()['workers'].values())")) != str(
            sorted(names)
        ):
            assert time.monotonic() < deadline, found

    def run(self, workspace: Path, stages: str) -> subprocess.Popen[str]:
        return self.start("head", "-c", STAGES, str(workspace), self.address, stages)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:  # type: ignore[no-untyped-def]
    made = Cluster(machines, tmp_path_factory.mktemp("cluster"))
    try:
        made.wait_for_workers("one", "two")
        yield made
    finally:
        made.stop()


Processes = Callable[[Path], dict[int, str]]


def wait_for_workers(worker: str, run: subprocess.Popen[str], processes: Processes, folder: Path) -> None:
    """Wait until both machines do a unit of work of a run."""
    while sum(f"tasks.workers.{worker} " in command for command in processes(folder).values()) < 2:
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)


def test_two_machines_make_the_bytes_of_one_and_a_second_run_finds_everything(
    cluster: Cluster, here: object, tmp_path: Path
) -> None:
    said = cluster.run(tmp_path, ALL).communicate(timeout=1200)[0]
    assert digests_in(said) == here
    for job in (
        "shards of synthetic val",
        "predictions on val and 1 more",
        "features of val and 2 more",
        "neighbours of 0 and 1 more",
    ):
        assert f"{job}: 100%" in said, said
    again = cluster.run(tmp_path, ALL).communicate(timeout=900)[0]
    assert digests_in(again) == here
    assert again.count("units of work") == said.count("verify"), "only reading a set again is never found"


@pytest.mark.parametrize(("stage", "worker"), [("", "shard"), ("predict", "predict"), ("retrieve", "embed")])
def test_a_machine_that_is_cut_off_in_the_middle_loses_its_unit_only_and_comes_back(
    cluster: Cluster, here: dict[str, object], processes: Processes, stage: str, worker: str, tmp_path: Path
) -> None:
    run = cluster.run(tmp_path, stage)
    wait_for_workers(worker, run, processes, tmp_path)
    cluster.machines.unplug("two")
    said = run.communicate(timeout=1200)[0]
    cluster.machines.plug("two")
    found = digests_in(said)
    assert found == {name: here[name] for name in found}  # type: ignore[attr-defined]
    cluster.workers["two"].wait(300)  # it has ended, because it could not reach the scheduler
    cluster.workers["two"] = cluster.start_worker("two")
    cluster.wait_for_workers("one", "two")


def test_a_worker_that_dies_loses_its_unit_only(
    cluster: Cluster, here: dict[str, object], processes: Processes, tmp_path: Path
) -> None:
    run = cluster.run(tmp_path, "")
    wait_for_workers("shard", run, processes, tmp_path)
    cluster.workers["two"].kill()
    said = run.communicate(timeout=1200)[0]
    found = digests_in(said)
    assert found == {name: here[name] for name in found}  # type: ignore[attr-defined]
    cluster.workers["two"] = cluster.start_worker("two")
    cluster.wait_for_workers("one", "two")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_the_units_of_a_run_end_with_it_and_the_next_run_continues(
    cluster: Cluster,
    here: dict[str, object],
    processes: Processes,
    wait_for: Callable[[Callable[[], bool], str], None],
    end: signal.Signals,
    tmp_path: Path,
) -> None:
    run = cluster.run(tmp_path, "")
    wait_for_workers("shard", run, processes, tmp_path)
    run.send_signal(end)
    run.communicate(timeout=60)
    wait_for(lambda: not processes(tmp_path), "a unit of a run that has ended is left")
    assert not list(tmp_path.glob("shards/*/*/*/manifest.json")), "the run was not interrupted"
    found = digests_in(cluster.run(tmp_path, "").communicate(timeout=1200)[0])
    assert found == {name: here[name] for name in found}  # type: ignore[attr-defined]


def test_a_scheduler_that_ends_ends_the_run_in_one_sentence(cluster: Cluster, processes: Processes, tmp_path: Path) -> None:
    run = cluster.run(tmp_path, "")
    wait_for_workers("shard", run, processes, tmp_path)
    cluster.processes[1].kill()
    said = run.communicate(timeout=1200)[0]
    assert f"InputError: lost the scheduler at {cluster.address}; start it again" in said
