"""What runs after what. Imported before anything else of ours and before Prefect, so it prepares the process for them."""

import os
import signal
import sys
from pathlib import Path


def _prepare() -> None:
    is_program = sys.argv[0] == "-m"  # Python is looking for the module that it is to run
    if is_program:  # our modules come before those of the folder that the user stands in, which may hold a model.py
        sys.path.insert(0, str(Path(__file__).parent.parent))
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C in seconds of imports; `flows.command_line` handles it later
    from base.errors import InputError
    from flows.surroundings import prepare
    from tasks.workspace import check_writable

    try:
        if is_program:
            prepare(sys.argv[1:])
        if home := os.environ.get("PREFECT_HOME"):  # if Prefect cannot make it, it only warns, and fails minutes later
            check_writable(Path(home), "the folder of Prefect", "another PREFECT_HOME")
    except InputError as error:
        raise SystemExit(f"error: {error}") from error


_prepare()
