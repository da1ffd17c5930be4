"""The folder that holds everything that is produced, and the lock that keeps a second run out of it, of any machine.

Imports Prefect only when a run has to wait.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from filelock import BaseFileLock, FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from base.errors import InputError

DEFAULT_WORKSPACE = Path("artifacts")
LOCK = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
LOCAL_LOCKS = {
    "nfs": ("nolock", "local_lock=all", "local_lock=flock"),
    "nfs4": ("nolock", "local_lock=all", "local_lock=flock"),
    "lustre": ("localflock",),
    "cifs": ("nobrl",),
    "smb3": ("nobrl",),
    "fuse.sshfs": ("",),
}
"""The mount options with which the locks of a file system do not reach other machines; an empty one is always there."""


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
def locked(
    path: Path, reuse: bool = False, cluster: str | None = None, wait: Callable[[str], None] | None = None
) -> Iterator[Workspace]:
    """Create the workspace if it is missing and hold it for this run.

    If another run holds it, `wait` is told so, and this run goes on when that has ended. A run of a deployment, which nobody
    watches, waits in any case.

    Raises:
        InputError: it cannot be created or written to, its disk has no locks that other machines see, or another run holds it
            and this one does not wait.
    """
    path = path.expanduser().absolute()
    check_writable(path)
    if kind := local_locks(path.resolve(), Path("/proc/self/mountinfo").read_text()):
        raise InputError(
            f"the workspace {path} is on {kind}, whose locks other machines do not see, so that two runs could use it at once; "
            f"mount it with locks, or give another --workspace"
        )
    lock = FileLock(path / LOCK, fallback_to_soft=False)
    try:
        _acquire(lock, path, wait)
    except OSError as error:
        what = "lock" if error.errno in NO_LOCKS else "write to"
        raise InputError(f"cannot {what} the workspace {path} ({error.strerror}); give another --workspace") from error
    try:
        with suppress(OSError):  # a full disk, on which a run can still find everything
            (path / LOCK).write_text(f"{socket.gethostname()}, process {os.getpid()}")
        yield Workspace(path=path, reuse=reuse, cluster=cluster)
    finally:
        lock.release()


def local_locks(path: Path, mounts: str) -> str | None:
    """Return the file system of a path, such as `nfs with local_lock=all`, if other machines do not see its locks.

    `mounts` is the text of `/proc/self/mountinfo`.
    """
    deepest, kind, options = 0, "", ""
    for line in mounts.splitlines():
        mount, _, about = line.partition(" - ")  # `36 35 98:0 / /mnt rw - nfs4 server:/path rw,vers=4.2`
        point = Path(mount.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= deepest:
            deepest = len(point.parts)
            kind, _, options = about.split(" ", 2)
    for option in LOCAL_LOCKS.get(kind, ()):
        if not option or option in options.split(","):
            return f"{kind} with {option}" if option else kind
    return None


def _acquire(lock: BaseFileLock, path: Path, wait: Callable[[str], None] | None) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        holder = f"{path} ({(path / LOCK).read_text()})"
        wait = wait or _log_of_a_deployment()
        if wait is None:
            raise InputError(
                f"another run is using the workspace {holder}; wait until it ends, or give another --workspace"
            ) from error
        wait(f"waiting until the run that uses the workspace {holder} ends")
        lock.acquire(poll_interval=1)


def _log_of_a_deployment() -> Callable[[str], None] | None:
    from prefect.runtime import deployment

    from tasks.progress import run_log

    return None if deployment.id is None else run_log().info
