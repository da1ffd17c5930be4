"""A flow as a program: its parameters are the options, its docstring the help, and bad input ends in one sentence."""

import atexit
import logging
import sys
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any, get_type_hints

from cyclopts import App
from cyclopts import Parameter as Option
from prefect import Flow
from prefect.exceptions import ParameterTypeError

from tasks.workers.guard import explain


def run(flow: Flow[..., Any]) -> None:
    """Parse the command line, run the flow, and print what it returns; exit with 1 and a sentence where the input is bad."""
    option = Option(consume_multiple=True)  # what a shell makes of `--weights runs/*/weights.safetensors`
    app = App(name=f"python -m flows.{flow.fn.__name__}", help_format="plaintext", version_flags=[], default_parameter=option)
    last_words: list[str] = []
    # Handlers run last registered first: these words come after Prefect's own, which go to stderr.
    atexit.register(lambda: print("", *last_words, sep="\n", flush=True) if last_words else None)

    @wraps(flow.fn)
    def call(**parameters: Any) -> None:
        flow.validate_parameters(parameters)
        print(f"{flow.name}: starting Prefect; the first time this takes some ten seconds", flush=True)
        last_words.append(str(flow(**parameters)))

    options = signature(flow.fn).parameters.values()
    # Prefect checks limits such as gt=0 and says so in a sentence; the command line needs the bare types.
    types = get_type_hints(flow.fn)
    bare = [option.replace(kind=Parameter.KEYWORD_ONLY, annotation=types[option.name]) for option in options]
    call.__annotations__ = types
    vars(call).update(__signature__=Signature(bare), __wrapped__=None)
    app.default(call)
    _hold_back_noise()
    try:
        app()
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        last_words.append(f"error: {sentence}")
        sys.exit(1)


def _sentence(error: Exception) -> str | None:
    if isinstance(error, ParameterTypeError):
        return " ".join(str(error).split())
    if str(error).startswith("Failed to reach API"):  # a bare RuntimeError of Prefect's
        return f"{error}, to which PREFECT_API_URL points; start that server (make up), or unset it and the run has its own"
    return explain(error, Path.cwd())


def _hold_back_noise() -> None:
    quiet = _QuietAboutBadInput()
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(quiet)
    logging.getLogger("prefect.flows").setLevel(logging.CRITICAL)  # repeats refused parameters, which we say once
    for name in ("EventsWorker", "APILogWorker"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they warn of what they are still sending when the program ends


class _QuietAboutBadInput(logging.Filter):
    """Holds back what Prefect logs of an error that the user can mend, traceback and echoes: it is said once, at the end."""

    said = False

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Exception) and _sentence(error) is not None:
            self.said = True
            return False
        return not (self.said and record.getMessage().startswith("Finished in state Failed"))
