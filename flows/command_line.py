"""A flow as a program: its parameters are the options and its docstring is the help.

An error that the user can correct ends in one sentence. Every other error is a bug and is shown once, with its traceback.
The exit code is 1 in both cases.
"""

import atexit
import logging
import signal
import sys
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, TextIO, get_type_hints

from cyclopts import App
from cyclopts import Parameter as Option
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError

from base.errors import sentence_of
from tasks.launch import WorkerError

ECHOES = ("Task run failed with exception", "Encountered exception during execution", "Finished in state Failed")
"""How Prefect begins to log a failure: once for the task and once for the flow, each with its own traceback."""


def run(flow: Flow[..., Any]) -> None:
    """Parse the command line, run the flow and print what it returns."""
    option = Option(consume_multiple=True)  # a shell expands `--weights runs/*/weights.safetensors`
    app = App(
        name=f"python -m flows.{flow.fn.__name__}",
        help_format="plaintext",
        version_flags=[],
        default_parameter=option,
        suppress_keyboard_interrupt=False,
    )
    results, errors = _at_exit(sys.stdout), _at_exit(sys.stderr)

    @wraps(flow.fn)
    def call(**parameters: Any) -> None:
        flow.validate_parameters(parameters)
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
    try:
        app()
    except KeyboardInterrupt:
        errors.append("interrupted; the same command continues with what is missing")
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        errors.append(f"error: {sentence}")
        sys.exit(1)


def _start_server() -> None:
    """Start the server that Prefect starts for a run if there is no other, with SIGINT blocked.

    Ctrl-C reaches every process of a terminal, and a run whose server is gone takes a minute to end.
    """
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    get_client(sync_client=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, previous)


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
