"""One run a workspace: the second is turned away, and a dead one holds nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.artifacts import ROOT
from tasks.workspace import locked

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
        assert workspace == tmp_path / "new" / "er"
        assert workspace.is_dir()
    with locked(Path("~/er")) as workspace:
        assert workspace == tmp_path / "home" / "er"


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
        sentence = f"^another run is using the workspace {re.escape(str(tmp_path))}; wait for it to end, or give another --workspace$"
        with pytest.raises(ValueError, match=sentence), locked(tmp_path):
            pytest.fail("two runs work in one workspace")
        first.kill()
        first.wait()
        with locked(tmp_path):
            pass


def test_a_run_that_was_turned_away_does_not_free_the_workspace(tmp_path: Path) -> None:
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(ValueError, match="another run is using the workspace"), locked(tmp_path):
                pytest.fail("two runs work in one workspace")


@pytest.mark.parametrize(
    ("place", "reason"),
    [("file/below", "Not a directory"), ("file", "File exists"), ("/proc/none", "No such file or directory"), ("/proc/self", "")],
)
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / place
    message = rf"^cannot write to the workspace {re.escape(str(path))} \({reason}.*\); give another --workspace$"
    with pytest.raises(OSError, match=message), locked(path):
        pytest.fail("this place can be written to")
