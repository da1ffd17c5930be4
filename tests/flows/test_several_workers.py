"""A PostgreSQL server, a Prefect server with a password, and a worker on each of two machines that share a workspace."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType

from data_shards.datasets.synthetic import SyntheticSource
from data_shards.planning import ShardConfig
from tasks.code import ROOT
from tasks.shard import shard_split
from tasks.workspace import Workspace

pytestmark = pytest.mark.machines

NUM_RUNS = 20
PASSWORD = "alexnet:not-a-secret"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def database() -> Iterator[str]:
    """Return the address of an empty database of a PostgreSQL server of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("a database for several workers needs PostgreSQL's programs (Debian: apt-get install postgresql)")
    programs, port = found[-1].parent, str(free_port())
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    with TemporaryDirectory() as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, **user)
        initialise = [programs / "initdb", "-D", folder / "data", "--auth=trust", "--username=prefect", "--no-sync"]
        subprocess.run(initialise, capture_output=True, check=True, **user)
        serve = [programs / "postgres", "-D", folder / "data", "-p", port, "-h", "127.0.0.1", "-k", folder]
        with (folder / "log").open("w") as log, subprocess.Popen(serve, stdout=log, stderr=log, **user) as server:
            try:
                at = ["-h", "127.0.0.1", "-p", port, "-U", "prefect"]
                deadline = time.monotonic() + 60
                while subprocess.run([programs / "pg_isready", *at], capture_output=True, check=False).returncode:
                    assert time.monotonic() < deadline, (folder / "log").read_text()
                    time.sleep(0.2)
                subprocess.run([programs / "createdb", *at, "prefect"], check=True)
                yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
            finally:
                server.terminate()


def on(machine: str, *arguments: str, **environment: str) -> str:
    """Run `flows.services` on a machine: with a host name of its own."""
    named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', machine]
    if subprocess.run([*named, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a second machine needs unshare and the right to set a host name, which this machine does not grant")
    command = [*named, sys.executable, "-m", "flows.services", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_runs_that_are_started_at_once_all_end_and_none_is_lost_or_runs_twice(database: str, tmp_path: Path) -> None:
    config = ShardConfig(storage="square64", samples_per_shard=20)
    shard_split.fn(SyntheticSource(train_per_class=1), "train", config, Workspace(path=tmp_path))
    port = free_port()
    url, workspace = f"http://127.0.0.1:{port}", ("--workspace", str(tmp_path))
    environment = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        "PREFECT_API_AUTH_STRING": PASSWORD,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    try:
        on("one", "up", *workspace, "--port", str(port), **environment)
        on("two", "up", *workspace, "--server-url", url, **environment)
        with SyncPrefectClient(f"{url}/api", auth_string=PASSWORD) as client:
            deployment = client.read_deployment_by_name("verify/all")
            started = {client.create_flow_run_from_deployment(deployment.id).id for _ in range(NUM_RUNS)}
            ids = FlowRunFilter.model_validate({"id": {"any_": list(map(str, started))}})
            deadline = time.monotonic() + 1800
            while True:
                runs = client.read_flow_runs(flow_run_filter=ids)
                states = Counter(run.state_type for run in runs)
                if states[StateType.COMPLETED] == NUM_RUNS:
                    break
                assert not states[StateType.FAILED] + states[StateType.CRASHED], states
                assert time.monotonic() < deadline, states
                time.sleep(1)
            assert {run.id for run in runs} == started
            assert {run.run_count for run in runs} == {1}
    finally:
        left = on("two", "down", *workspace, **environment)
        ended = on("one", "down", *workspace, **environment)
    assert len(list(tmp_path.glob("verified/*/*"))) == NUM_RUNS, "every run reads the set again, once"
    logs = {path: path.read_text() for path in tmp_path.glob("logs/*/*.log")}
    assert {str(path.relative_to(tmp_path / "logs")) for path in logs} == {"one/server.log", "one/worker.log", "two/worker.log"}
    begun = {name: logs[tmp_path / "logs" / name / "worker.log"].count("Beginning flow run") for name in ("one", "two")}
    assert begun["one"] + begun["two"] == NUM_RUNS
    assert min(begun.values()) > 0, begun
    whole = "".join(logs.values())
    assert "waiting until the run that uses the workspace" in whole
    assert "database is locked" not in whole
    assert not (tmp_path / "prefect" / "prefect.db").exists()
    assert left.splitlines()[-1] == "server: not running"
    assert "server: stopped" in ended
