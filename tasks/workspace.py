"""The folder that holds everything that is produced, and the lock that keeps a second run out of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from base.errors import InputError

DEFAULT_WORKSPACE = Path("artifacts")


class Workspace(BaseModel):
    """A workspace, and what a run may take from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: Path
    reuse: bool = False
    """Whether to take an artefact that was made by other code from the same inputs and settings."""
    cluster: str | None = None
    """Address of a Dask scheduler whose workers share the work; None for processes of this machine."""

    @property
    def sources(self) -> Path:
        """The folder of plain copies of archives that cannot be read at random."""
        return self.path / "sources"

    @property
    def tables(self) -> Path:
        """The folder of the tables."""
        return self.path / "tables"


def check_writable(path: Path, name: str = "the workspace", instead: str = "another --workspace") -> None:
    """Create a folder if it is missing and check that a file can be created in it.

    Raises:
        InputError: it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {name} {path} ({error.strerror}); give {instead}") from error


@contextmanager
def locked(path: Path, reuse: bool = False, cluster: str | None = None) -> Iterator[Workspace]:
    """Create the workspace if it is missing and hold it for this run.

    Raises:
        InputError: it cannot be created or written to, or another run holds it.
    """
    path = path.expanduser().absolute()
    check_writable(path)
    lock = FileLock(path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another run is using the workspace {path}; wait until it ends, or give another --workspace"
        ) from error
    except OSError as error:
        raise InputError(f"cannot write to the workspace {path} ({error.strerror}); give another --workspace") from error
    try:
        yield Workspace(path=path, reuse=reuse, cluster=cluster)
    finally:
        lock.release()
