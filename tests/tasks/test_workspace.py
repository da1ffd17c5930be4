"""One run a workspace: the second is turned away, and a dead one holds nothing."""

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from base.errors import InputError
from tasks.code import ROOT
from tasks.workspace import local_locks, locked

HOLD = """
import sys
from pathlib import Path
from tasks.workspace import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_workspace_is_made_and_given_as_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with locked(Path("new/er")) as workspace:
        assert workspace.path == tmp_path / "new" / "er"
        assert workspace.path.is_dir()
    with locked(Path("~/er")) as workspace:
        assert workspace.path == tmp_path / "home" / "er"


def test_one_run_after_another_is_let_in(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            pass
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass


def test_two_workspaces_are_held_at_once(tmp_path: Path) -> None:
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass


def test_a_second_run_is_turned_away_until_the_first_is_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        holder = rf"{re.escape(str(tmp_path))} \(.*, process {first.pid}\)"
        sentence = f"^another run is using the workspace {holder}; wait until it ends, or give another --workspace$"
        with pytest.raises(InputError, match=sentence), locked(tmp_path):
            pytest.fail("two runs work in one workspace")
        first.kill()
        first.wait()
        with locked(tmp_path):
            pass


def test_a_run_that_was_turned_away_does_not_free_the_workspace(tmp_path: Path) -> None:
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(InputError, match="another run is using the workspace"), locked(tmp_path):
                pytest.fail("two runs work in one workspace")


@pytest.mark.parametrize(
    ("place", "reason"),
    [("file/below", "Not a directory"), ("file", "File exists"), ("/proc/none", "No such file or directory")],
)
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / place
    message = rf"^cannot write to the workspace {re.escape(str(path))} \({reason}.*\); give another --workspace$"
    with pytest.raises(InputError, match=message), locked(path):
        pytest.fail("this place can be written to")


AS_NOBODY = """
import os, sys
from pathlib import Path
from base.errors import InputError
from tasks.workspace import local_locks, locked
if os.geteuid() == 0:
    os.seteuid(65534)
for path in sys.argv[1:]:
    try:
        with locked(Path(path)):
            print(f"{path} was written to")
    except InputError as error:
        print(error)
"""


def test_a_folder_of_somebody_else_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o555)
        paths = [str(folder), str(folder / "new")]
        ended = subprocess.run([sys.executable, "-c", AS_NOBODY, *paths], cwd=ROOT, capture_output=True, text=True)
        folder.chmod(0o755)
    expected = [f"cannot write to the workspace {path} (Permission denied); give another --workspace" for path in paths]
    assert (ended.stdout.splitlines(), ended.stderr) == (expected, "")


def test_a_disk_that_can_only_be_read_is_refused(tmp_path: Path) -> None:
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c", 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"', str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("mounting a disk needs unshare and the right to use it, which this machine does not grant")
    ended = subprocess.run([*mount, sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    sentence = (
        f"base.errors.InputError: cannot write to the workspace {tmp_path} (Read-only file system); give another --workspace"
    )
    assert ended.stderr.splitlines()[-1] == sentence


def test_a_run_that_waits_says_so_and_goes_on_when_the_other_one_ends(tmp_path: Path) -> None:
    said: list[str] = []
    held = ExitStack()
    held.enter_context(locked(tmp_path))

    def let_go(sentence: str) -> None:
        said.append(sentence)
        held.close()

    with locked(tmp_path, wait=let_go) as workspace:
        assert workspace.path == tmp_path
    holder = f"{socket.gethostname()}, process {os.getpid()}"
    assert said == [f"waiting until the run that uses the workspace {tmp_path} ({holder}) ends"]


MOUNTS = """\
22 1 252:1 / / rw - ext4 /dev/vda rw
90 22 0:40 / /v3 rw - nfs server:/v3 rw,vers=3,local_lock=none,addr=10.0.0.9
91 22 0:41 / /v3/old rw - nfs server:/old rw,vers=3,nolock,local_lock=all,addr=10.0.0.9
92 22 0:42 / /v4 rw - nfs4 server:/v4 rw,vers=4.2,local_lock=none
93 22 0:43 / /l rw - lustre mgs@tcp:/l rw,flock
94 22 0:44 / /l\\040l rw - lustre mgs@tcp:/l rw,localflock
95 22 0:45 / /s rw - fuse.sshfs host:/s rw,user_id=0
96 22 252:2 / /v3/old rw - ext4 /dev/vdb rw
97 22 0:46 / /smb rw - cifs //server/share rw,nobrl
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data", None),
        ("/v3/data", None),
        ("/v4", None),
        ("/l/data", None),
        ("/l l/data", "lustre with localflock"),
        ("/s/data", "fuse.sshfs"),
        ("/smb/data", "cifs with nobrl"),
        ("/v3/old/data", None),  # what was mounted over it last
    ],
)
def test_locks_that_other_machines_do_not_see_are_known_by_their_mount(path: str, kind: str | None) -> None:
    assert local_locks(Path(path), MOUNTS) == kind


def test_an_nfs_disk_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.workspace.local_locks", lambda path, mounts: "nfs with nolock")
    sentence = (
        f"^the workspace {re.escape(str(tmp_path))} is on nfs with nolock, whose locks other machines do not see, so that"
    )
    with pytest.raises(InputError, match=sentence), locked(tmp_path):
        pytest.fail("two runs could work in one workspace")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_disk_without_any_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(InputError, match=f"^cannot lock the workspace {re.escape(str(tmp_path))}"), locked(tmp_path):
        pytest.fail("two runs could work in one workspace")
