"""Where a flow that runs as a program keeps the files of Prefect, Matplotlib and numba: in its workspace.

Neither the home folder nor the checkout has to be writable. Called by `flows/__init__.py`, so it does not import Prefect.
"""

import atexit
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tasks.code import ROOT
from tasks.workspace import DEFAULT_WORKSPACE, check_writable

MAKES_NOTHING = {"--help", "-h", "down"}


def prepare(arguments: Sequence[str]) -> None:
    """Set what Prefect, Matplotlib and numba read when they are imported, for a command line.

    Raises:
        InputError: the workspace, or Prefect's folder, cannot be written to.
    """
    if MAKES_NOTHING & set(arguments):
        folder = tempfile.TemporaryDirectory()
        atexit.register(folder.cleanup)
        os.environ.setdefault("PREFECT_HOME", folder.name)  # Prefect makes it on import
        return
    workspace = workspace_in(arguments)
    check_writable(workspace)
    settings = tomllib.loads((ROOT / "prefect.toml").read_text("utf-8"))  # which Prefect finds in the current folder only
    for name, value in surroundings(workspace, settings).items():
        os.environ.setdefault(name, value)


def surroundings(workspace: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables for files in the workspace and Prefect's settings from any folder.

    numba's compiled functions are next to their source, for all workspaces, if that folder can be written to.
    """
    home = workspace / "prefect"
    found = {"PREFECT_HOME": str(home), "MPLCONFIGDIR": str(home / "matplotlib"), "DO_NOT_TRACK": "1"}
    if not os.access(ROOT / "data_shards", os.W_OK):
        found["NUMBA_CACHE_DIR"] = str(workspace / "numba")
    return {**found, **dict(_variables("PREFECT", settings))}


def workspace_in(arguments: Sequence[str]) -> Path:
    """Return the workspace that a command line names, or the default one; a wrong command line is refused later."""
    found = DEFAULT_WORKSPACE
    for argument, following in pairwise([*arguments, ""]):
        name, is_one_word, value = argument.partition("=")
        if name == "--workspace":
            found = Path(value if is_one_word else following)
    return found.expanduser().absolute()


def _variables(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield `PREFECT_SERVER_ANALYTICS_ENABLED` and its value for the entry of prefect.toml, and so on."""
    for name, value in settings.items():
        variable = f"{prefix}_{name.upper()}"
        if isinstance(value, Mapping):
            yield from _variables(variable, value)
        else:
            yield variable, str(value).lower()
