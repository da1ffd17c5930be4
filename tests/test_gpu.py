"""`benchmarks.gpu` where there is no GPU: every check that a CPU can run, and checks that fail, hang or cannot run."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_checks import CHECKS
from benchmarks.gpu_checks.bench import Bench
from tasks.code import ROOT

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run make gpu")

LEFT_OUT = {"replicas": "tests/tasks/workers/test_replicas.py runs them", "speed by precision": "as the other speeds"}
NOT_RUN = {"speed, batch 256", "speed, batch 1,024", "JPEG engine"}


def test_without_a_gpu_it_says_so_and_runs_what_a_cpu_can_without_prefect(tmp_path):
    code = "import sys, runpy; sys.modules |= dict.fromkeys(['prefect', 'numba', 'matplotlib', 'webdataset']); "
    code += "sys.argv[0] = 'gpu'; runpy.run_module('benchmarks.gpu', run_name='__main__', alter_sys=True)"
    names = [name for name in CHECKS if name not in LEFT_OUT]
    command = [sys.executable, "-c", code, "--out", str(tmp_path / "gpu.json"), "--seconds", "1500", "--only", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("This machine has no GPU that torch can use")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["gpus"] == []
    lines = {line["check"]: line for line in found["lines"]}
    assert list(lines) == names
    assert {name for name, line in lines.items() if line["verdict"] == "not run"} == NOT_RUN
    assert all(line["verdict"] == "passed" for name, line in lines.items() if name not in NOT_RUN)
    assert lines["decoded pixels"]["values"]["usual"]["maximum"] == 0
    assert lines["resumption"]["values"]["bits_equal"]
    assert all(f"{line['verdict']:8} {name}" in done.stdout for name, line in lines.items())


def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path / "gpu.json"), "--only", "dropout", "photographs"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes, start_new_session=True) as process:
        for said in process.stdout:
            if said.startswith("dropout: passed"):
                break
        time.sleep(0.5)  # the next check is at work, with processes of its own
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
        table, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"\ninterrupted: 1 of 2 checks had ended; their lines are in {tmp_path / 'gpu.json'}\n"
    assert "passed   dropout" in table
    assert [line["check"] for line in json.loads((tmp_path / "gpu.json").read_text())["lines"]] == ["dropout"]
    deadline = time.monotonic() + 10
    while _is_left(process.pid):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)


def _is_left(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_check_that_fails_or_hangs_is_a_line_and_the_others_run(tmp_path, monkeypatch):
    monkeypatch.setitem(gpu.CHECKS, "dropout", CHECKS["dropout"]._replace(seconds=0.0))
    names = ["decoded pixels", "dropout", "photographs"]
    cannot, hung, failed = gpu.lines(names, Bench(0, 1, tmp_path / "missing"), seconds=900)
    assert (cannot.verdict, cannot.said) == ("not run", "there are no images, because they could not be made")
    assert (hung.verdict, hung.said) == ("failed", "it had not ended after 0 s")
    assert (failed.verdict, failed.said[:17]) == ("failed", "FileNotFoundError")
    assert "Traceback" in failed.traceback


def test_a_process_that_dies_and_time_that_is_over_are_lines_too():
    pipe, other = gpu.get_context("spawn").Pipe()
    other.close()
    assert gpu._line("dropout", pipe, 9.0, 9.0).said == "its process died"
    assert gpu._line("dropout", None, 9.0, 9.0).said == "no process could be started for it"
    assert gpu._line("dropout", None, 9.0, 0.0).verdict == "not run"
