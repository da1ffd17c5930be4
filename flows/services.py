"""A Prefect server, a worker and all deployments on this machine: `python -m flows.services up`, later `down`.

Each workspace has its own server, and a worker on each machine that shares it. They continue in the background.
WORKSPACE/logs/MACHINE holds what they print. (`prefect server start --background` discards the server's log, and `prefect
server stop` kills whatever process has the noted ID by then.)
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from cyclopts import App
from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.events import AutomationCore, EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Cancelled
from prefect.workers.process import ProcessWorker

from base.errors import InputError, sentence_of
from base.files import write_text
from tasks.code import ROOT
from tasks.workspace import DEFAULT_WORKSPACE

POOL = "alexnet"
AUTH = "PREFECT_API_AUTH_STRING"
"""The environment variable with the name and the password that the server asks for."""
MACHINE = socket.gethostname()
LOOPBACK = "127.0.0.1"
OURS = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""On disk, so that a run holds its GPUs through a restart of the server."""
PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
Slugs = dict[tuple[str, str], set[str | None]]
"""Of schedules, by the entrypoint and the name of their deployment."""
SECONDS_TO_START = 120
SECONDS_TO_STOP = 45
"""The worker gives a flow 30 s to end."""

app = App(name="python -m flows.services", help=__doc__, help_format="plaintext", version_flags=[])


@app.command
def up(
    *, workspace: Path = DEFAULT_WORKSPACE, port: int = 4200, address: str = LOOPBACK, server_url: str | None = None
) -> None:
    """Start what is not running and deploy all flows.

    Args:
        workspace: Folder for everything that is produced, also by the runs.
        port: Of the server.
        address: Of this machine, if others are to reach the server; needs PREFECT_API_AUTH_STRING=NAME:PASSWORD.
        server_url: Start only a worker, for the server of another machine: http://HOST:4200.
    """
    workspace = workspace.expanduser().absolute()
    server, worker = _services(workspace)
    url = server_url or f"http://{address}:{port}"
    api = f"{url.rstrip('/')}/api"
    os.environ["PREFECT_API_URL"] = api
    os.environ.setdefault("PREFECT_HOME", str(workspace / "prefect"))
    # A script starts its background jobs with SIGINT ignored, and a Prefect worker that inherits this cannot be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _client(api) as client:
        if server_url is None:
            _check_address(server, address, port, api)
            os.environ.setdefault("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", LEASES)
            server.ensure(f"server start --host {address} --port {port}", api, lambda: client.api_healthcheck() is None)
            pool = WorkPoolCreate(name=POOL, type="process", base_job_template=ProcessWorker.get_default_base_job_template())
            client.create_work_pool(pool, overwrite=True)
            _make_automation(client)
            _deploy(client, workspace)
        else:
            _check_server(client, url)
        # The runs share one workspace, so they take turns.
        work = f"worker start --pool {POOL} --type process --name {MACHINE} --limit 1"
        worker.ensure(work, api, lambda: _is_online(client, worker.note.stat().st_mtime))
    print(f"\nWatch runs at {url}. To start one, type:\n")
    print(f"  export PREFECT_API_URL={api}\n  .venv/bin/prefect deployment run reproduce/demo --watch\n")
    given = "" if workspace == DEFAULT_WORKSPACE.absolute() else f" WORKSPACE={workspace}"
    print(f"Logs: {worker.logs}. To stop: make down{given}")


@app.command
def down(*, workspace: Path = DEFAULT_WORKSPACE) -> None:
    """Stop the worker of this machine with its run, then the server if it is on this machine.

    Args:
        workspace: The one that `up` was given.
    """
    server, worker = _services(workspace.expanduser().absolute())
    running = worker.find()
    ours = _runs_of(running[0]) if running is not None else set()
    worker.stop()
    if (known := server.find() or running) is not None:
        try:
            _close_runs(known[1], ours)
        except HTTPError as error:
            print(f"the server at {known[1]} was not told that the runs have ended ({error})", flush=True)
    server.stop()


class Service(NamedTuple):
    """A process of this machine that continues when `up` has ended. It holds a lock on its note as long as it lives."""

    name: str
    logs: Path

    @property
    def note(self) -> Path:
        """The file with its process ID and the address of the server's API."""
        return self.logs / f"{self.name}.json"

    def find(self) -> tuple[int, str] | None:
        """Return its process ID and the address of the server's API, or None if it does not run."""
        with suppress(FileNotFoundError), self.note.open() as note:
            try:
                fcntl.flock(note, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return cast("tuple[int, str]", json.load(note))
        return None

    def ensure(self, command: str, api: str, is_ready: Callable[[], bool]) -> None:
        """Run `prefect COMMAND` if it does not run, and wait until it is ready.

        Raises:
            InputError: it ended or took too long.
        """
        log = self.logs / f"{self.name}.log"
        running = self.find()
        pid = running[0] if running is not None else self._start(command, api, log)
        print(f"{self.name}: {'starting' if running is None else 'already running'}, process {pid}, {log}", flush=True)
        _wait(lambda: is_ready() or self.find() is None, SECONDS_TO_START)
        if not (is_ready() and self.find()):
            raise InputError(f"the {self.name} did not start; the last lines of {log}:\n{_tail(log.read_text())}")

    def _start(self, command: str, api: str, log: Path) -> int:
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.note.open("w") as note, log.open("ab") as out:
            fcntl.flock(note, fcntl.LOCK_EX)  # the child inherits the open file, and with it the lock
            process = subprocess.Popen(
                [*PREFECT, *command.split()],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                pass_fds=[note.fileno()],
            )
            json.dump((process.pid, api), note)
        return process.pid

    def stop(self) -> None:
        """Terminate it and wait; kill it if it does not end."""
        running = self.find()
        if running is not None:
            os.kill(running[0], signal.SIGTERM)
            if not _wait(lambda: self.find() is None, SECONDS_TO_STOP):
                os.kill(running[0], signal.SIGKILL)
        print(f"{self.name}: {'not running' if running is None else f'stopped, process {running[0]}'}", flush=True)


def _wait(is_so: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


def _services(workspace: Path) -> tuple[Service, Service]:
    """Return the server and the worker of this machine. Machines that share the workspace do not share the notes."""
    logs = workspace / "logs" / MACHINE
    return Service("server", logs), Service("worker", logs)


def _client(api: str) -> SyncPrefectClient:
    return SyncPrefectClient(api, auth_string=os.environ.get(AUTH))


def _check_address(server: Service, address: str, port: int, api: str) -> None:
    """Refuse a port that is taken, and an address that others reach without a password; tell the server the password."""
    running = server.find()
    if AUTH in os.environ:
        os.environ["PREFECT_SERVER_API_AUTH_STRING"] = os.environ[AUTH]
    elif address != LOOPBACK:
        raise InputError(
            f"other machines reach a server at {address}, and who reaches it can start programs here; "
            f"set {AUTH}=NAME:PASSWORD, here and wherever the server is used"
        )
    if running is None:
        with suppress(OSError), socket.create_connection((address, port), timeout=5):
            raise InputError(f"something else listens on port {port}; give another with --port")
    elif running[1] != api:
        raise InputError(f"the server of this workspace is at {running[1]}; give that address and port, or run down first")


def _check_server(client: SyncPrefectClient, url: str) -> None:
    """Refuse a server of another machine that does not answer, that asks for another password, or that is not ours."""
    try:
        client.read_work_pool(POOL)
    except (HTTPError, ObjectNotFound) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"cannot use the server at {url} ({reason}); start it on its machine with make up ADDRESS=…, "
            f"and set {AUTH} as there"
        ) from error


def _make_automation(client: SyncPrefectClient) -> None:
    """Let the server mark a run as crashed if three of its heartbeats are missing: a killed process cannot do so itself."""
    seconds = 3 * (get_current_settings().flows.heartbeat_frequency or 0)
    name = f"a run without a heartbeat for {seconds} s has crashed"
    if client.read_automations_by_name(name):
        return  # an update would lose the state of the runs that it watches
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.*"},
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=seconds),
    )
    crash = ChangeFlowRunState(state=StateType.CRASHED, message=f"No heartbeat for {seconds} s: its process is gone.")
    client.create_automation(AutomationCore(name=name, trigger=trigger, actions=[crash]))


def _deploy(client: SyncPrefectClient, workspace: Path) -> None:
    """Deploy all of prefect.yaml, with the workspace as a parameter of each deployment.

    `logs/prefect.yaml` remembers what was deployed. It names every schedule of ours on the server at all times: schedules are
    deleted before it is written, and created after.

    Raises:
        InputError: Prefect refuses the file, or a schedule in it has no slug.
    """
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for deployment in project["deployments"]:
        deployment["parameters"] = {**deployment.get("parameters", {}), "workspace": str(workspace)}
    wanted = _slugs(project)
    if unnamed := [name for (_, name), slugs in wanted.items() if None in slugs]:
        raise InputError(f"a schedule of {unnamed[0]} in prefect.yaml has no slug; give it one, by which it is found again")
    file = workspace / "logs" / "prefect.yaml"
    _clear_schedules(client, _slugs(yaml.safe_load(file.read_text())) if file.exists() else {}, wanted)
    write_text(file, yaml.safe_dump(project, sort_keys=False))
    print(f"deploying {len(project['deployments'])} flows of prefect.yaml, workspace {workspace}", flush=True)
    command = [*PREFECT, "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"could not deploy {file}; the last lines:\n{_tail(done.stdout + done.stderr)}")


def _slugs(project: dict[str, Any]) -> Slugs:
    """The slugs of all schedules in a file; None for a schedule without one."""
    return {
        (one["entrypoint"], one["name"]): {schedule.get("slug") for schedule in one.get("schedules", [])}
        for one in project["deployments"]
    }


def _clear_schedules(client: SyncPrefectClient, deployed: Slugs, wanted: Slugs) -> None:
    """Do to schedules what `prefect deploy` does not: delete those of ours that the file no longer has, keep everybody's.

    Prefect updates schedules by their slugs, but if one has none, it replaces all of the deployment. So each gets one.
    """
    for deployment in client.read_deployments(work_pool_filter=OURS):
        which = (deployment.entrypoint or "", deployment.name)
        for schedule in deployment.schedules:
            if schedule.slug is not None and schedule.slug in deployed.get(which, set()) - wanted.get(which, set()):
                client.delete_deployment_schedule(deployment.id, schedule.id)
                print(f"schedule {schedule.slug!r} of {deployment.name} ({which[0]}): deleted, the file no longer has it")
            elif schedule.slug is None and which in wanted:
                # The server would empty the parameters if they were left out.
                slug = f"by-hand-{schedule.id}"
                client.update_deployment_schedule(deployment.id, schedule.id, slug=slug, parameters=schedule.parameters)


def _is_online(client: SyncPrefectClient, since: float) -> bool:
    beats = [worker.last_heartbeat_time for worker in client.read_workers_for_work_pool(POOL) if worker.name == MACHINE]
    return any(beat >= datetime.fromtimestamp(since, UTC) for beat in beats if beat is not None)


def _runs_of(worker: int) -> set[str]:
    """Return the IDs of the runs that a worker is executing: each of its child processes has one in its environment."""
    mark, found = b"PREFECT__FLOW_RUN_ID=", set[str]()
    for children in Path(f"/proc/{worker}/task").glob("*/children"):
        for child in children.read_text().split():
            with suppress(OSError):
                variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
                found |= {value.removeprefix(mark).decode() for value in variables if value.startswith(mark)}
    return found


def _close_runs(api: str, ours: set[str]) -> None:
    """Set the runs that ended with their worker to Cancelled: ours, or all if no other machine has a worker."""
    going = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}})
    with _client(api) as client:
        workers = client.read_workers_for_work_pool(POOL)
        alone = all(worker.name == MACHINE or worker.status != WorkerStatus.ONLINE for worker in workers)
        for run in client.read_flow_runs(flow_run_filter=going, work_pool_filter=OURS):
            if alone or str(run.id) in ours:
                client.set_flow_run_state(run.id, Cancelled(message="The worker was stopped."), force=True)
                print(f"run {run.name!r}: cancelled; finished steps are kept", flush=True)


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-15:])


if __name__ == "__main__":
    try:
        app()
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        sys.exit(f"error: {sentence}")
