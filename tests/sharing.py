"""What the processes of one run of the tests share: the cores, what one of them has made, Prefect's empty database.

Each process has a server, and one from which others are forked with their imports done.

A plugin (`-p tests.sharing` in pyproject.toml), so that it is imported before NumPy and torch.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from filelock import FileLock

# One thread for each process, here and in the workers, unless a job gives another number. Small networks gain nothing from
# more, and threads that wait for each other on busy cores lose much; if there are several, those that wait sleep.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

MakeOnce = Callable[[str, Callable[[Path], object]], Path]
PrefectHome = Callable[[Path], Path]
Program = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parent.parent

CREATE_DATABASE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each process begin with its part of the long tests: worksteal gives each the same number of tests in a row."""
    num = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.get_closest_marker("long")]
    short = iter([item for item in items if not item.get_closest_marker("long")])
    sizes = [len(items) * (n + 1) // num - len(items) * n // num for n in range(num)]
    parts = [long[n::num] for n in range(num)]
    items[:] = [
        item for part, size in zip(parts, sizes, strict=True) for item in (*part, *islice(short, max(size - len(part), 0)))
    ]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MakeOnce:
    """Return a function that fills a new folder, once for all processes of this run, and returns it. To be read only.

    `fill` is called with the folder by the first process that asks for its name; the others wait.
    """
    own = tmp_path_factory.getbasetemp()
    root = (own if worker_id == "master" else own.parent) / "made-once"
    root.mkdir(exist_ok=True)

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir()
                fill(folder)
                made.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def prefect_home(make_once: MakeOnce) -> PrefectHome:
    """Return a function that puts an empty database into a new PREFECT_HOME; Prefect itself takes seconds to make one."""

    def create(folder: Path) -> None:
        subprocess.run([sys.executable, "-c", CREATE_DATABASE], env={**os.environ, "PREFECT_HOME": str(folder)}, check=True)

    def copy(home: Path) -> Path:
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_once("prefect", create) / "prefect.db", home)
        return home

    return copy


@pytest.fixture(scope="session")
def prefect_server(prefect_home: PrefectHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Prefect server for this process and return its address, the PREFECT_API_URL of programs.

    Flows that run within this process report to it too. Its database is empty at first.
    """
    from prefect.settings import PREFECT_API_URL  # seconds, which most tests do not need
    from prefect.testing.utilities import prefect_test_harness

    home = prefect_home(tmp_path_factory.mktemp("server"))
    (home / "prefect.db").rename(home / "prefect-test.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect.testing.utilities.mkdtemp", lambda: str(home))
        with prefect_test_harness(server_startup_timeout=120):
            yield PREFECT_API_URL.value()


@pytest.fixture(scope="session")
def forking(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Start the process that others are forked from; return their environment, in which is the server of the tests."""
    from tests import forked  # noqa: F401  # it says what is imported

    home = tmp_path_factory.mktemp("programs") / "prefect"
    with pytest.MonkeyPatch.context() as patch:  # Prefect reads them when it is imported
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_API_URL", prefect_server)
        ensure_running()
        return dict(os.environ)


@pytest.fixture(scope="session")
def program(forking: dict[str, str]) -> Program:
    """Return a function that runs `python -m MODULE WORDS` in a folder, and returns its exit code and what it wrote."""
    from tests import forked

    def run(module: str, *words: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *map(str, words)]
        with NamedTemporaryFile("r") as said:
            process = forked.start(command, Path(said.name), forking, cwd)
            process.join(300)
            process.kill()
            process.join()
            return subprocess.CompletedProcess(command, process.exitcode or 0, said.read())

    return run
