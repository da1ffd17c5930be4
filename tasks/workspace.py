"""The folder in which everything that is produced lies, and the lock that keeps a second run out of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

DEFAULT_WORKSPACE = Path("artifacts")


@contextmanager
def locked(workspace: Path) -> Iterator[Path]:
    """Make the workspace where it is missing and hold it for this run; yield its absolute path.

    Raises:
        OSError: it cannot be made or written to.
        ValueError: another run holds it.
    """
    workspace = workspace.expanduser().absolute()
    lock = FileLock(workspace / ".lock", timeout=0)
    try:
        workspace.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"another run is using the workspace {workspace}; wait for it to end, or give another --workspace"
        ) from error
    except OSError as error:
        raise OSError(f"cannot write to the workspace {workspace} ({error.strerror}); give another --workspace") from error
    try:
        yield workspace
    finally:
        lock.release()
