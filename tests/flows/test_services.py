"""Server, worker and deployments as people use them, with real processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.states import Cancelling

from base.errors import InputError
from flows import services
from flows.services import Service
from tasks.code import ROOT

ONE_NETWORK = {"num_networks": 1, "num_pretrained": 0}
SHORT = {**ONE_NETWORK, "report": False, "epochs": 2}
"""Its network is there already; its predictions are made."""
GPU = "gpu-of-the-test"
LONG = {**ONE_NETWORK, "epochs": 1000, "seed": 1}


class Machine:
    """A workspace with a server of its own."""

    def __init__(self, workspace: Path, port: int) -> None:
        self.workspace, self.port = workspace, port
        self.api = f"http://127.0.0.1:{port}/api"
        own = {"PREFECT_HOME": str(workspace / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "2", "COLUMNS": "200"}
        self.environment = {**os.environ, **own, "PREFECT_API_URL": self.api}

    def begin(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], code: int = 0) -> str:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == code, said
        return said

    def up(self, *, code: int = 0) -> str:
        command = ("up", "--workspace", str(self.workspace), "--port", str(self.port))
        return self.end(self.begin("flows.services", *command), code)

    def down(self) -> str:
        return self.end(self.begin("flows.services", "down", "--workspace", str(self.workspace)))

    def processes(self, word: str = "") -> list[str]:
        """Return the command lines, with this word in them, of the processes that know of this server."""
        mark = f"PREFECT_API_URL={self.api}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return [command for command in found if word in command]


@pytest.fixture
def machine(tmp_path: Path, prefect_home: Callable[[Path], Path]) -> Iterator[Machine]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prefect_home(tmp_path / "prefect")
    machine = Machine(tmp_path, port)
    yield machine
    machine.down()


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.3)


def hold_slot(client: SyncPrefectClient) -> UUID:
    client.upsert_global_concurrency_limit_by_name(GPU, limit=1)
    held = client.increment_concurrency_slots_with_lease([GPU], 1, "concurrency", 600.0)
    return UUID(held.json()["lease_id"])


def slots_in_use(client: SyncPrefectClient) -> int:
    return client.read_global_concurrency_limit_by_name(GPU).active_slots


def kill_server(machine: Machine) -> None:
    running = Service("server", machine.workspace / "logs" / socket.gethostname()).find()
    assert running is not None
    os.kill(running[0], signal.SIGKILL)
    wait_until(lambda: machine.processes("server start") == [], "the end of the server")


def deploy_earlier_file(machine: Machine) -> None:
    """Leave what a `make up` leaves whose prefect.yaml has one more schedule than today's."""
    file = machine.workspace / "logs" / "prefect.yaml"
    project = yaml.safe_load(file.read_text())
    (retrain,) = [one for one in project["deployments"] if one["entrypoint"] == "flows.retrain.retrain"]
    retrain["schedules"].append({"slug": "hourly", "cron": "0 * * * *", "timezone": "UTC", "active": True})
    file.write_text(yaml.safe_dump(project))
    alone = file.with_name("earlier.yaml")
    alone.write_text(yaml.safe_dump({**project, "deployments": [retrain]}))
    machine.end(machine.begin("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(alone)))


def schedules(client: SyncPrefectClient) -> dict[str, tuple[str, bool, dict[str, Any]]]:
    """The cron expression of each schedule of retrain/folder, whether it is active, and its parameters."""
    found = client.read_deployment_by_name("retrain/folder").schedules
    return {(one.slug or "none")[:7]: (cast("CronSchedule", one.schedule).cron, one.active, one.parameters) for one in found}


def activate_schedule(client: SyncPrefectClient) -> None:
    deployment = client.read_deployment_by_name("retrain/folder")
    client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=True)


def runs(client: SyncPrefectClient, *states: StateType) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": states}}}))


def kinds_of_artifacts(client: SyncPrefectClient, run: FlowRun) -> set[str]:
    of_run = ArtifactFilter.model_validate({"flow_run_id": {"any_": [str(run.id)]}})
    return {str(artifact.type) for artifact in client.read_artifacts(artifact_filter=of_run)}


@pytest.mark.long
def test_up_run_schedule_cancel_down(machine: Machine, reproduced: tuple[Path, str]) -> None:
    for made in ("shards", "colours", "runs"):
        shutil.copytree(reproduced[0] / made, machine.workspace / made)
    said = machine.up()
    assert f"export PREFECT_API_URL={machine.api}\n" in said
    assert "prefect deployment run reproduce/demo --watch\n" in said
    assert said.endswith(f". To stop: make down WORKSPACE={machine.workspace}\n")

    parameters = [f"--param={name}={json.dumps(value)}" for name, value in SHORT.items()]
    short = machine.begin("prefect", "deployment", "run", "reproduce/demo", "--watch", *parameters)
    with SyncPrefectClient(machine.api) as client:
        lease = hold_slot(client)
        # With a wrong SQLAlchemy the server starts, answers, and schedules nothing: only this shows it.
        activate_schedule(client)
        wait_until(lambda: len(runs(client, StateType.SCHEDULED)) > 1, "a schedule of the coming nights")

        deploy_earlier_file(machine)
        retrain = client.read_deployment_by_name("retrain/folder")
        by_hand = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 5 * * *"), active=True, parameters={"seed": 7})
        client.create_deployment_schedules(retrain.id, [by_hand])
        assert schedules(client).keys() == {"nightly", "weekly-", "hourly", "none"}
        said = machine.up()
        assert said.count("already running") == 2
        assert "schedule 'hourly' of folder (flows.retrain.retrain): deleted, the file no longer has it\n" in said
        as_it_should_be = {
            "nightly": ("0 3 * * *", False, {}),
            "weekly-": ("0 5 * * 0", False, {"start": "scratch"}),
            "by-hand": ("0 5 * * *", True, {"seed": 7}),
        }
        assert schedules(client) == as_it_should_be

        assert "Completed" in machine.end(short)
        (done,) = runs(client, StateType.COMPLETED)
        assert kinds_of_artifacts(client, done) == {"progress", "table"}
        assert (machine.workspace / "tables" / "table2.parquet").exists()

        deployment = client.read_deployment_by_name("reproduce/demo")
        client.create_flow_run_from_deployment(deployment.id, parameters=LONG)
        log = machine.workspace / "logs" / socket.gethostname() / "worker.log"
        wait_until(lambda: "/1000 " in log.read_text(), "the training of a thousand epochs")
        assert machine.processes("tasks.workers.train")
        (long,) = runs(client, StateType.RUNNING)
        client.set_flow_run_state(long.id, Cancelling())
        wait_until(lambda: runs(client, StateType.CANCELLED) != [], "the end of the cancelled run")
        assert [run.id for run in runs(client, StateType.CANCELLED)] == [long.id]
        assert machine.processes("tasks.workers") == machine.processes("prefect.engine") == []
        assert list(machine.workspace.glob("runs/demo-cnn-1/*.partial/work/checkpoints/*.pt")), "training was not saved"

        # With leases in memory, the slot would stay occupied for ever.
        kill_server(machine)
        said = machine.up()
        assert "server: starting" in said
        assert "worker: already running" in said
        assert slots_in_use(client) == 1
        client.renew_concurrency_lease(lease, 600.0)
        client.release_concurrency_slots_with_lease(lease)
        assert slots_in_use(client) == 0
        assert schedules(client) == as_it_should_be

    said = machine.down()
    assert "worker: stopped" in said
    assert "server: stopped" in said
    assert machine.processes() == []
    assert machine.down() == "worker: not running\nserver: not running\n"


def test_a_port_that_something_else_listens_on_is_refused(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", machine.port))
        taken.listen()
        said = machine.up(code=1)
    assert said == f"error: something else listens on port {machine.port}; give another with --port\n"


def test_a_note_of_a_process_that_ended_is_ignored_even_if_its_id_is_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Service("worker", tmp_path)
    worker.note.write_text(f'[{os.getpid()}, "http://127.0.0.1:4200/api"]')
    assert worker.find() is None
    worker.stop()
    assert capsys.readouterr().out == "worker: not running\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its process is left to run on purpose
def test_a_service_that_ends_at_once_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    service = Service("server", tmp_path / "logs")
    with pytest.raises(InputError, match="(?s)^the server did not start; the last lines of .*server.log:\n.*no-such-command"):
        service.ensure("no-such-command", "http://127.0.0.1:4200/api", lambda: False)


def test_an_address_that_others_reach_needs_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    monkeypatch.setenv("PREFECT_API_URL", "")  # `up` sets it
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"^other machines reach a server at 10\.77\.0\.1, .*; set PREFECT_API_AUTH_STRING="):
        services.up(workspace=tmp_path, address="10.77.0.1")
    assert not list(tmp_path.iterdir())


def test_a_server_of_another_machine_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"^cannot use the server at http://127\.0\.0\.1:9 \(.*\); start it on its machine"):
        services.up(workspace=tmp_path, server_url="http://127.0.0.1:9")
