"""Units of work on the workers of a Dask cluster instead of processes of this machine.

Every worker sees the archives and the workspace under the paths that they have here, and was started in a checkout of this
project. A worker of the cluster starts the same processes that this machine would. See docs/cluster.md.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from prefect import flow, task
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL
from prefect.task_runners import TaskRunner

from base.errors import InputError
from base.progress import Message
from tasks.gpus import held
from tasks.launch import Runner, Unit, launch

SHARES_PER_THREAD = 4
"""So that a worker that is slow, or that joins late, changes little. (ours)"""
SECONDS_TO_CONNECT = 20
INSTALL = "a cluster needs prefect-dask; run .venv/bin/pip install -r requirements-dev.txt in the checkout"


@contextmanager
def on_cluster(address: str, gpus: Sequence[int]) -> Iterator[tuple[Runner, int]]:
    """Connect to a Dask scheduler; yield what runs units on its workers, and into how many shares they divide a stage.

    If the work is for GPUs, a unit holds the first one that its worker sees, to its end.

    Raises:
        InputError: nothing answers there, no worker is connected, there is no server that they can reach, or prefect-dask is
            not installed.
    """
    if PREFECT_API_URL.value() is None:
        raise InputError(
            "the workers of a cluster report to a Prefect server that they can all reach; start one and set PREFECT_API_URL"
        )
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(INSTALL) from error
    try:
        client: Any = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}; start one: .venv/bin/python -m dask scheduler") from error
    with client:
        num_threads = sum(client.nthreads().values())
        if not num_threads:
            command = f".venv/bin/python -m dask worker {address}"
            raise InputError(f"the scheduler at {address} has no workers; start one on each machine: {command}")
        yield partial(_run, client, address, [0] if gpus else []), SHARES_PER_THREAD * num_threads


def _run(
    client: Any,
    address: str,
    gpus: Sequence[int],
    units: Sequence[Unit],
    at_once: int,
    heard: Callable[[Unit, Message], None],
    done: Callable[[Unit], None],
) -> None:
    """Run all units on the workers, as `launch` does here; a single unit, such as a plan, is no work for a cluster."""
    if len(units) <= 1:
        with held(gpus):
            launch(units, at_once, heard, done)
        return
    from prefect_dask.task_runners import DaskTaskRunner

    runner: TaskRunner[Any] = DaskTaskRunner(address=address)
    listener, topic = _Listener(units, heard, done), f"units-{uuid4()}"

    @flow(name="units of work", flow_run_name=units[0].name, task_runner=runner)
    def run_units() -> None:
        for number, unit in enumerate(units):
            run_unit.submit(unit, number, topic, gpus).add_done_callback(listener.news.put)
        listener.listen()

    client.subscribe_topic(topic, lambda event: listener.news.put(event[1]))
    try:
        run_units()
    except CancelledError as error:
        raise InputError(f"lost the scheduler at {address}; start it again, and the same command: it continues") from error
    except RuntimeError as error:
        if "deserialization" in str(error):
            raise InputError(
                f"the scheduler or a worker of {address} cannot import this project; start both in a checkout of it, "
                f"with its Python: python -m dask scheduler, python -m dask worker"
            ) from error
        raise
    finally:
        client.unsubscribe_topic(topic)


class _Listener:
    """What the workers say comes in here. Prefect sends them the flow with all that it refers to; this stays."""

    def __init__(self, units: Sequence[Unit], heard: Callable[[Unit, Message], None], done: Callable[[Unit], None]) -> None:
        self.units, self.heard, self.done = units, heard, done
        self.news: SimpleQueue[Any] = SimpleQueue()
        """Finished futures, and reports with the number of their unit."""

    def __reduce__(self) -> tuple[Any, ...]:
        return object, ()

    def listen(self) -> None:
        """Pass on reports until every unit is done."""
        for unit in self.units:
            self.heard(unit, Message())
        left = len(self.units)
        while left:
            new = self.news.get()
            if isinstance(new, PrefectFuture):
                number, last = new.result()
                self.heard(self.units[number], last)
                self.done(self.units[number])
                left -= 1
            else:
                number, report = new
                self.heard(self.units[number], Message(**report))


@task(task_run_name="{unit.name}, {unit.arguments}")
def run_unit(unit: Unit, number: int, topic: str, gpus: Sequence[int]) -> tuple[int, Message]:
    """Do one unit of work on this machine, reporting to a topic of the scheduler; return its number and its last report.

    Raises:
        InputError: the run that asked for it has ended.
    """
    from distributed import get_worker

    worker = get_worker()
    key, last = worker.get_current_task(), [Message()]

    def pass_on(_: Unit, message: Message) -> None:
        state = worker.state.tasks.get(key)
        if state is None or state.state != "executing":  # nobody waits for it, or the scheduler gave it to another worker
            raise InputError(f"{unit.name}: the run that asked for this has ended, so it was stopped")
        if message.done is not None:
            last[0] = message
        worker.log_event(topic, (number, asdict(message)))

    with held(gpus):
        launch([unit], 1, pass_on, lambda _: None)
    return number, last[0]
