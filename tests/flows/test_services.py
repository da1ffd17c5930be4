"""Server, worker and deployments as people use them, with real processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from tasks.artifacts import ROOT

NETWORK = {"num_networks": 1, "num_pretrained": 0}
SHORT = {**NETWORK, "epochs": 1, "pretrain_epochs": 1, "finetune_epochs": 1}


class Machine:
    """One workspace with its server, and nothing of the tests' own surroundings."""

    def __init__(self, workspace: Path, port: int) -> None:
        self.workspace, self.port = workspace, port
        self.api = f"http://127.0.0.1:{port}/api"
        own = {"PREFECT_HOME": str(workspace / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "2"}
        self.environment = {**os.environ, **own, "PREFECT_API_URL": self.api}

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self) -> str:
        return self.run("flows.services", "up", "--workspace", str(self.workspace), "--port", str(self.port))

    def down(self) -> str:
        return self.run("flows.services", "down", "--workspace", str(self.workspace))

    def processes(self) -> list[str]:
        """Return the command lines of all processes that know of this server."""
        mark = f"PREFECT_API_URL={self.api}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    machine = Machine(tmp_path / "workspace", port)
    yield machine
    machine.down()


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.3)


def test_up_run_schedule_cancel_down(machine: Machine) -> None:
    said = machine.up()
    assert f"export PREFECT_API_URL={machine.api}\n" in said
    assert "prefect deployment run reproduce/demo --watch\n" in said
    with SyncPrefectClient(machine.api) as client:
        activate_schedule(client)
        short = start(client, **SHORT)
        assert machine.up().count("running already") == 2
        wait_until(lambda: state(client, short).is_final(), "the short run ends", 180)
        assert state(client, short).type == StateType.COMPLETED
        assert kinds_of_artifacts(client, short) == {"progress", "table"}
        assert {"error_rates.parquet", "table2.parquet"} <= {path.name for path in (machine.workspace / "tables").iterdir()}

        assert states_of_scheduled(client) == {StateType.SCHEDULED}

        long = start(client, **NETWORK, epochs=1000, seed=1)
        wait_until(lambda: "epoch 1/1000" in log(machine), "training begins")
        assert any("tasks.workers.train" in process for process in machine.processes())
        client.set_flow_run_state(long.id, Cancelling())
        wait_until(lambda: state(client, long).is_final(), "the long run ends")
        assert state(client, long).type == StateType.CANCELLED
        assert not [process for process in machine.processes() if "tasks.workers" in process or "prefect.engine" in process]

        left = start(client, **NETWORK, epochs=1000, seed=1)
        wait_until(lambda: any("tasks.workers.train" in process for process in machine.processes()), "training goes on")
    said = machine.down()
    assert "worker: stopped" in said
    assert "server: stopped" in said
    assert machine.processes() == []
