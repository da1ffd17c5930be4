"""A Prefect server, a worker and all deployments on this machine: `python -m flows.services up`, and `down` again.

Server and worker go on in the background, one pair a workspace. WORKSPACE/logs holds what they print and which
processes they are.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import yaml
from cyclopts import App
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore, EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState
from prefect.settings import get_current_settings
from prefect.states import Cancelled
from prefect.workers.process import ProcessWorker

from tasks.artifacts import ROOT
from tasks.workspace import DEFAULT_WORKSPACE

POOL = "alexnet"
HOST = "127.0.0.1"
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
SECONDS_TO_START = 120
SECONDS_TO_STOP = 45
"""The worker gives a flow thirty to end."""

app = App(name="python -m flows.services", help=__doc__, help_format="plaintext", version_flags=[])


@app.command
def up(*, workspace: Path = DEFAULT_WORKSPACE, port: int = 4200) -> None:
    """Start what does not run yet and deploy all flows.

    Args:
        workspace: Folder for everything that is made, by the runs too.
        port: Of the server, which only this machine can reach.
    """
    workspace = workspace.expanduser().absolute()
    server, worker = (Service(name, workspace / "logs") for name in ("server", "worker"))
    _check_port(server, port)
    url = f"http://{HOST}:{port}"
    environment = {"PREFECT_HOME": str(workspace / "prefect"), **os.environ, "PREFECT_API_URL": f"{url}/api"}
    # The background jobs of a script ignore SIGINT, and a Prefect worker that inherits this cannot be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with SyncPrefectClient(f"{url}/api") as client:
        serve = ["server", "start", "--host", HOST, "--port", str(port)]
        server.ensure(serve, environment, lambda: client.api_healthcheck() is None)
        pool = WorkPoolCreate(name=POOL, type="process", base_job_template=ProcessWorker.get_default_base_job_template())
        client.create_work_pool(pool, overwrite=True)
        _make_automation(client)
        _deploy(workspace, environment)
        # The runs share one workspace, so they take turns.
        work = ["worker", "start", "--pool", POOL, "--type", "process", "--name", "worker", "--limit", "1"]
        worker.ensure(work, environment, lambda: _is_online(client, worker.note.stat().st_mtime))
    print(f"\nWatch runs at {url}. To start one, type:\n")
    print(f"  export PREFECT_API_URL={url}/api\n  .venv/bin/prefect deployment run reproduce/demo --watch\n")
    print(f"Logs: {workspace / 'logs'}. To stop: make down")


@app.command
def down(*, workspace: Path = DEFAULT_WORKSPACE) -> None:
    """Stop the worker, with it the run under way, then the server.

    Args:
        workspace: The one that `up` was given.
    """
    server, worker = (Service(name, workspace.expanduser().absolute() / "logs") for name in ("server", "worker"))
    worker.stop()
    running = server.find()
    if running is not None:
        _close_runs(f"http://{HOST}:{running.command[-1]}/api")
    server.stop()


class Process(NamedTuple):
    """A process, and the command line by which it is told from a later one of the same pid."""

    pid: int
    command: list[str]


@dataclass(frozen=True)
class Service:
    """A process that goes on when `up` has ended."""

    name: str
    logs: Path

    @property
    def note(self) -> Path:
        """The file that says which process it is."""
        return self.logs / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """The file that it prints to."""
        return self.logs / f"{self.name}.log"

    def find(self) -> Process | None:
        """Return its process, None where it does not run; a note that is no longer true is forgotten aloud."""
        if not self.note.exists():
            return None
        process = Process(*json.loads(self.note.read_text()))
        found = _command_line(process.pid)
        if found == process.command:
            return process
        became = f"now belongs to {' '.join(found)!r}" if found else "is gone"
        print(f"{self.name}: process {process.pid}, noted in {self.note}, {became}; forgetting it", flush=True)
        self.note.unlink()
        return None

    def ensure(self, arguments: list[str], environment: dict[str, str], ready: Callable[[], bool]) -> None:
        """Start `prefect ARGUMENTS` where it does not run, and wait until it is ready.

        Raises:
            RuntimeError: it ended or took too long.
        """
        running = self.find()
        pid = self._start([*PREFECT, *arguments], environment) if running is None else running.pid
        print(f"{self.name}: {'starting' if running is None else 'running already'}, process {pid}, {self.log}", flush=True)
        deadline = time.monotonic() + SECONDS_TO_START
        while not ready():
            if self.find() is None:
                raise RuntimeError(f"the {self.name} ended; the last lines of {self.log}:\n{_tail(self.log.read_text())}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the {self.name} was not ready after {SECONDS_TO_START} s; read {self.log}")
            time.sleep(0.3)

    def stop(self) -> None:
        """Ask it to end, wait, and kill it where it does not."""
        running = self.find()
        if running is None:
            print(f"{self.name}: not running", flush=True)
            return
        os.kill(running.pid, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS_TO_STOP
        while _command_line(running.pid) == running.command:
            if time.monotonic() > deadline:
                print(f"{self.name}: has not ended within {SECONDS_TO_STOP} s; killing it")
                os.kill(running.pid, signal.SIGKILL)
                break
            time.sleep(0.2)
        self.note.unlink()
        print(f"{self.name}: stopped, process {running.pid}", flush=True)

    def _start(self, command: list[str], environment: dict[str, str]) -> int:
        self.logs.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while process.poll() is None and _command_line(process.pid) != command:
            time.sleep(0.01)  # for a moment after the exec /proc shows none
        self.note.write_text(json.dumps(Process(process.pid, command)))
        return process.pid


def _check_port(server: Service, port: int) -> None:
    running = server.find()
    if running is not None:
        if running.command[-1] != str(port):
            raise RuntimeError(f"this workspace's server has port {running.command[-1]}; give that one, or run down first")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise RuntimeError(f"port {port} cannot be used ({error.strerror}); give another with --port") from error


def _make_automation(client: SyncPrefectClient) -> None:
    """A run whose process is gone cannot say so: the server calls it crashed when three of its heartbeats are missing."""
    seconds = 3 * (get_current_settings().flows.heartbeat_frequency or 0)
    name = f"a run that is silent for {seconds} s has crashed"
    if client.read_automations_by_name(name):
        return  # an update would forget the runs that it is watching
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=seconds),
    )
    crash = ChangeFlowRunState(state=StateType.CRASHED, message=f"Silent for {seconds} s: its process is gone.")
    client.create_automation(AutomationCore(name=name, trigger=trigger, actions=[crash]))


def _deploy(workspace: Path, environment: dict[str, str]) -> None:
    """Deploy all of prefect.yaml, with the workspace as a parameter of every deployment."""
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for deployment in project["deployments"]:
        deployment["parameters"] = {**deployment.get("parameters", {}), "workspace": str(workspace)}
    file = workspace / "logs" / "prefect.yaml"
    file.write_text(yaml.safe_dump(project, sort_keys=False))
    print(f"deploying {len(project['deployments'])} flows of prefect.yaml, workspace {workspace}", flush=True)
    command = [*PREFECT, "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"prefect.yaml could not be deployed; the last lines:\n{_tail(done.stdout + done.stderr)}")


def _is_online(client: SyncPrefectClient, since: float) -> bool:
    beats = [worker.last_heartbeat_time for worker in client.read_workers_for_work_pool(POOL)]
    return any(beat >= datetime.fromtimestamp(since, UTC) for beat in beats if beat is not None)


def _close_runs(api: str) -> None:
    """Say of the runs that ended with their worker that they did."""
    going = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
    ours = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
    with SyncPrefectClient(api) as client:
        for run in client.read_flow_runs(flow_run_filter=going, work_pool_filter=ours):
            client.set_flow_run_state(run.id, Cancelled(message="The worker was stopped."), force=True)
            print(f"run {run.name!r}: cancelled; what it had finished is kept", flush=True)


def _command_line(pid: int) -> list[str]:
    """Return how a process was started, nothing where it is gone or only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-15:])


if __name__ == "__main__":
    try:
        app()
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
