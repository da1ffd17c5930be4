"""A flow that runs as a program keeps everything in its workspace, from any folder, whatever the home folder is like."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from flows.surroundings import surroundings, workspace_in
from tasks.code import ROOT

NOT_WRITABLE = "/proc/none"
"""Not even root can make it."""


def run(folder, module, *options, **variables):
    """Run a flow in a folder, in an environment that knows only the checkout, as the `.pth` file of `make install` does."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": NOT_WRITABLE, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", module, *map(str, options)]
    return subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "workspace"),
    [
        ("", "artifacts"),
        ("--seed 1", "artifacts"),
        ("--workspace w --seed 1", "w"),
        ("--seed 1 --workspace=/a/b", "/a/b"),
        ("--workspace ~/w", str(Path("~/w").expanduser())),
    ],
)
def test_the_workspace_is_read_from_the_command_line_before_prefect_is_imported(words, workspace):
    assert workspace_in(words.split()) == Path.cwd() / workspace


def test_what_prefect_matplotlib_and_numba_keep_is_in_the_workspace(monkeypatch):
    settings = {"server": {"analytics_enabled": False, "ephemeral": {"startup_timeout_seconds": 120}}}
    expected = {
        "PREFECT_HOME": "/w/prefect",
        "MPLCONFIGDIR": "/w/prefect/matplotlib",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    for writable, numba in ((True, {}), (False, {"NUMBA_CACHE_DIR": "/w/numba"})):
        monkeypatch.setattr(os, "access", lambda path, mode, writable=writable: writable)
        assert surroundings(Path("/w"), settings) == expected | numba


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        (["--workspace", NOT_WRITABLE], {}, "the workspace /proc/none (No such file or directory); give another --workspace"),
        (["--workspace=/proc/version"], {}, "the workspace /proc/version (File exists); give another --workspace"),
        (
            [],
            {"PREFECT_HOME": NOT_WRITABLE},
            "the folder of Prefect /proc/none (No such file or directory); give another PREFECT_HOME",
        ),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_waited_for(tmp_path, options, variables, message):
    done = run(tmp_path, "flows.train", *options, **variables)
    assert (done.returncode, done.stdout) == (1, f"error: cannot write to {message}\n")


def test_the_help_writes_nothing(tmp_path):
    done = run(tmp_path, "flows.train", "--help", "-W", "error")
    assert done.returncode == 0
    assert "Warning" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_flow_runs_from_any_folder_with_paths_of_that_folder_and_without_a_home(tmp_path):
    """Modules of that folder that are called like ours hide nothing, and the temporary server has our settings."""
    for name in ("model.py", "base.py", "tasks.py"):
        (tmp_path / name).write_text("raise RuntimeError('not this one')\n")
    image = simplejpeg.encode_jpeg(np.zeros((80, 80, 3), np.uint8))
    for split in ("train", "val"):
        for name in ("n1", "n2", "n3"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            (tmp_path / "images" / split / name / "x.jpg").write_bytes(image)
    (tmp_path / "list.txt").write_text("n1\nn3\n")
    options = ("--dataset", "folder", "--archives", "images", "--wnids", "list.txt", "--splits", "val", "--workspace", "made")
    done = run(tmp_path, "flows.shard", *options)
    assert done.returncode == 0, done.stdout
    assert f"{tmp_path}/made/shards/images-2-" in done.stdout.splitlines()[-2]
    for unwanted in ("Traceback", "Warning", "WARNING", "ERROR", "telemetry", "usage data"):
        assert unwanted not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.py", "images", "list.txt", "made", "model.py", "tasks.py"]
    assert (tmp_path / "made" / "prefect" / "prefect.db").exists()
