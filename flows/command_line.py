"""A flow as a program: its parameters are the options and its docstring is the help.

An error that the user can correct ends in one sentence. Every other error is a bug and is shown once, with its traceback.
The exit code is 1 in both cases. Ctrl-C and SIGTERM end the run and all its processes within seconds, with one sentence and the
exit codes 130 and 143; a second Ctrl-C ends them at once.
"""

import atexit
import logging
import os
import signal
import sys
from contextlib import suppress
from contextvars import copy_context
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any, TextIO, get_type_hints

from cyclopts import App
from cyclopts import Parameter as Option
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError

from base.errors import sentence_of
from tasks.launch import WorkerError

ECHOES = (
    "Task run failed with exception",
    "Encountered exception during execution",
    "Finished in state Failed",
    "Crash detected!",
    "Finished in state Crashed",
)
"""How Prefect begins to log a failure or a stop: once for the task and once for the flow, some with a traceback."""


def run(flow: Flow[..., Any]) -> None:
    """Parse the command line, run the flow and print what it returns."""
    # A shell expands `--weights runs/*/weights.safetensors`. An empty list of files, `--empty-weights`, helps nobody.
    option = Option(consume_multiple=True, negative_iterable=())
    app = App(
        name=f"python -m flows.{flow.fn.__name__}",
        help_format="plaintext",
        version_flags=[],
        default_parameter=option,
        suppress_keyboard_interrupt=False,
    )
    results, errors = _at_exit(sys.stdout), _at_exit(sys.stderr)
    kept = ["nothing was made yet"]

    @wraps(flow.fn)
    def call(**parameters: Any) -> None:
        flow.validate_parameters(parameters)
        if "workspace" in types:
            workspace = parameters.get("workspace", signature(flow.fn).parameters["workspace"].default)
            kept[0] = f"{workspace} keeps every finished step and the last checkpoint of a training"
        # A server of its own needs no types of blocks: it ends with the run. A second of its start.
        os.environ.setdefault("PREFECT_SERVER_REGISTER_BLOCKS_ON_START", "false")
        print(f"{flow.name}: starting Prefect; the first time this takes about ten seconds", flush=True)
        _start_server()
        results.append(str(flow(**parameters)))

    options = signature(flow.fn).parameters.values()
    # Prefect checks limits such as gt=0 and explains them in a sentence; the command line needs the bare types.
    types = get_type_hints(flow.fn)
    bare = [option.replace(kind=Parameter.KEYWORD_ONLY, annotation=types[option.name]) for option in options]
    call.__annotations__ = types
    vars(call).update(__signature__=Signature(bare), __wrapped__=None)
    app.default(call)
    _hide_echoes()
    for which in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(which) != signal.SIG_IGN:  # as in the background jobs of a script
            signal.signal(which, _stop)
    try:
        app()
    except Stopped as stopped:
        errors.append(f"interrupted: {kept[0]}; the same command continues with what is missing")
        sys.exit(128 + stopped.which)
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        errors.append(f"error: {sentence}")
        sys.exit(1)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or SIGTERM."""

    def __init__(self, which: int) -> None:
        super().__init__()
        self.which = which


def _stop(which: int, frame: FrameType | None) -> None:
    """End the run; if that has begun already, kill all children and end at once."""
    del frame
    signal.signal(signal.SIGINT, _stop_at_once)
    raise Stopped(which)


def _stop_at_once(which: int, frame: FrameType | None) -> None:
    """Kill this process and its children; what these have started dies with them."""
    del frame
    kill_children()
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\033[?25h")  # the display has hidden the cursor
    os.write(sys.stderr.fileno(), b"\ninterrupted twice: ended at once; the same command continues with what is missing\n")
    os._exit(128 + which)


def kill_children() -> None:
    """Kill every child of this process."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(int(child), signal.SIGKILL)
                os.waitpid(int(child), 0)


def _start_server() -> None:
    """Start the server that Prefect starts for a run if there is no other, in a thread in which SIGINT is blocked.

    Ctrl-C reaches every process of a terminal, and a run whose server is gone takes a minute to end. The server inherits what
    its thread blocks; this one can be interrupted.
    """
    failed: list[Exception] = []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            get_client(sync_client=True)
        except Exception as error:
            failed.append(error)

    thread = Thread(target=copy_context().run, args=(start,), daemon=True)
    thread.start()
    try:
        thread.join()
    except Stopped:
        kill_children()
        raise
    if failed:
        raise failed[0]


def _at_exit(out: TextIO) -> list[str]:
    """Return a list whose lines are printed at exit: after Prefect's own, if this is called before Prefect starts."""
    lines: list[str] = []
    atexit.register(lambda: print("", *lines, sep="\n", file=out, flush=True) if lines else None)
    return lines


def _sentence(error: Exception) -> str | None:
    """Return what to show instead of a traceback, if anything."""
    if isinstance(error, ParameterTypeError):
        return " ".join(str(error).split())
    if isinstance(error, WorkerError):
        return str(error)  # with the traceback of the worker, which is the one that helps
    if str(error).startswith("Failed to reach API"):  # a bare RuntimeError of Prefect
        return f"{error}, to which PREFECT_API_URL points; start that server (make up), or unset it and the run has its own"
    return sentence_of(error)


def _hide_echoes() -> None:
    """Show a failure only at the end. The log of the run on a server keeps what is hidden here."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.getMessage().startswith(ECHOES))
    logging.getLogger("prefect.flows").setLevel(logging.CRITICAL)  # repeats invalid parameters
    for name in ("EventsWorker", "APILogWorker"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they warn if the program ends while they are sending
