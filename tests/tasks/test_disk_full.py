"""A disk that fills up while a worker writes to it: a real one, of two megabytes."""

import subprocess
import sys
from pathlib import Path

import pytest

from base.progress import Message, parse
from tasks.code import ROOT
from tasks.workers.guard import EXIT_BAD_INPUT


@pytest.mark.parametrize("how", ["file", "library"])
def test_a_full_disk_ends_the_work_with_one_sentence(tmp_path: Path, in_small_disk: list[str], how: str) -> None:
    disk = tmp_path / "disk"
    command = [*in_small_disk, sys.executable, "-m", "tests.tasks.planted", str(disk / "job.json"), "fill", how]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (EXIT_BAD_INPUT, "")
    sentence = f"the disk that holds {disk} is full; free some space and run again: finished steps are kept"
    assert parse(ended.stdout.strip()) == Message(text=sentence, error=True)


def test_a_bug_on_a_disk_with_space_keeps_its_traceback(tmp_path: Path, in_small_disk: list[str]) -> None:
    command = [*in_small_disk, sys.executable, "-m", "tests.tasks.planted", str(tmp_path / "disk" / "job.json"), "bug"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "a warning\n")
    assert ended.stderr.startswith("Traceback (most recent call last)")
    assert ended.stderr.endswith("IndexError: list index out of range\n")
