"""The flows as programs, run as a user would."""

import fcntl
import importlib
import inspect
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def home(prefect_home, tmp_path):
    """Return the PREFECT_HOME of a program that has a server of its own."""
    return prefect_home(tmp_path / "home")


FLOWS = [
    "shard",
    "verify",
    "train",
    "evaluate",
    "evaluate_classifier",
    "embed",
    "export",
    "report",
    "retrieve",
    "submit",
    "score",
    "reproduce",
    "retrain",
    "champion",
]


@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_of_a_flow_is_an_option_with_help(name, program):
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    result = program(f"flows.{name}", "--help")
    assert result.returncode == 0
    for parameter in inspect.signature(flow.fn).parameters:
        assert f"--{parameter.replace('_', '-')}" in result.stdout
        assert f"{parameter}:" in (flow.fn.__doc__ or ""), f"{parameter} has no help"


@pytest.mark.parametrize(
    ("flow", "options", "message"),
    [
        ("reproduce", ["--preset", "nope"], 'Invalid value "nope" for --preset'),
        ("reproduce", ["--epochs", "0"], "epochs: Input should be greater than 0"),
        ("train", ["--epoch", "3"], "Unknown option: --epoch. Did you mean --epochs?"),
        ("evaluate", [], "Parameter --weights requires an argument"),
        (
            "evaluate",
            ["--weights", "a.safetensors", "b.safetensors"],
            "a.safetensors; expected the weights.safetensors of a finished run",
        ),
        (
            "reproduce",
            ["--preset", "ilsvrc2012", "--source", "tests"],
            "the starred networks are pre-trained on fall2011, and its train: no fall11*.tar in",
        ),
    ],
)
def test_a_wrong_option_gets_one_sentence(flow, options, message, program):
    result = program(f"flows.{flow}", *options)
    assert result.returncode != 0
    assert message in " ".join(result.stdout.replace("│", " ").split())
    assert "Traceback" not in result.stdout


def test_a_server_that_is_not_there_gets_one_sentence(tmp_path):
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-m", "tests.flows.planted", "fine"]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, timeout=120, check=False
    )
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == (
        "error: Failed to reach API at http://127.0.0.1:9/api/, to which PREFECT_API_URL points; "
        "start that server (make up), or unset it and the run has its own"
    )
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (["bad_input", "--path", "a"], "no a; give another"),
        (["worker_refusal"], "job.json is wrong; it was Tuesday"),
        (["full_disk"], "No space left on device"),
        (["fine", "--count", "0"], "count: Input should be greater than 0"),
    ],
)
def test_an_error_that_the_user_can_correct_ends_in_one_sentence(flow, message, program):
    result = program("tests.flows.planted", *flow)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("error: ")
    assert lines[-1].endswith(message)
    assert result.stdout.count(message) == 1
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize(
    ("flow", "place", "message"),
    [
        ("shape_bug", "in multiply\n    return str(np.ones", "ValueError: matmul: Input operand 1 has a mismatch"),
        ("worker_bug", "in bug\n    print(", "error: the work: the worker 'planted' ended with exit code 1"),
    ],
)
def test_a_bug_in_a_task_or_a_worker_keeps_its_traceback_which_is_shown_once(flow, place, message, program):
    result = program("tests.flows.planted", flow)
    assert result.returncode == 1
    for text in ("Traceback (most recent call last)", place, message):
        assert result.stdout.count(text) == 1, result.stdout


def test_a_result_is_the_last_line_and_alone_on_standard_output(home):
    command = [sys.executable, "-m", "tests.flows.planted", "fine", "--count", "3"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PREFECT_HOME": str(home)}, timeout=120)
    assert result.returncode == 0
    first, *rest = result.stdout.splitlines()
    assert first.startswith("fine: starting Prefect")
    assert rest == ["", "3 results"]


CONTINUES = "; the same command continues with what is missing"


KEEPS = " keeps every finished step and the last checkpoint of a training"
NOTHING = "interrupted: nothing was made yet"


@pytest.mark.parametrize(
    ("flow", "has_server", "sent", "code", "sentence"),
    [
        ("endless", False, [signal.SIGINT], 130, NOTHING + CONTINUES),
        ("endless", True, [signal.SIGINT], 130, NOTHING + CONTINUES),
        ("endless", False, [signal.SIGTERM], 143, NOTHING + CONTINUES),
        ("stubborn", True, [signal.SIGINT], 130, f"interrupted: made{KEEPS}{CONTINUES}"),
        ("stubborn", False, [signal.SIGINT] * 2, 130, f"interrupted twice: ended at once{CONTINUES}"),
    ],
)
def test_ctrl_c_and_sigterm_end_a_run_its_workers_and_its_own_server(flow, has_server, sent, code, sentence, home, request):
    variables = request.getfixturevalue("server") if has_server else {}
    found, shown = _on_a_terminal([flow], "0/1 images", sent, PREFECT_HOME=str(home), **variables)
    assert found == code, shown
    assert shown.splitlines()[-1] == sentence
    assert "Traceback" not in shown


def test_ctrl_c_while_tables_are_written_leaves_whole_tables(reproduced, server, tmp_path):
    workspace = shutil.copytree(reproduced[0], tmp_path / "workspace", ignore=shutil.ignore_patterns("prefect"))
    words = ["tabulate_on_and_on", "--workspace", str(workspace), "--weights"]
    words += map(str, sorted(workspace.glob("runs/*/*/weights.safetensors")))
    found, shown = _on_a_terminal(words, "'tabulate val' - Finished", [signal.SIGINT], **server)
    assert found == 130, shown
    assert shown.splitlines()[-1] == f"interrupted: {workspace}{KEEPS}{CONTINUES}"
    assert "Traceback" not in shown
    assert not list((workspace / "tables").glob("*.partial"))
    for path in (workspace / "tables").glob("*.parquet"):
        assert len(pd.read_parquet(path)), path
    models = list(pd.read_parquet(workspace / "tables" / "error_rates.parquet")["model"])
    assert models.count("2 networks") == models.count("demo-cnn-0") >= 1, "half an evaluation"


def _on_a_terminal(words, until, sent, **variables):
    """Send signals to a planted flow once it shows `until`; return its exit code and what it showed.

    On a terminal SIGINT goes to every process. SIGTERM is sent to the flow's process alone.
    """
    terminal, inside = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.flows.planted", *words],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "DO_NOT_TRACK": "1", "COLUMNS": "1000", **variables},
        preexec_fn=_as_on_a_terminal,
    )
    os.close(inside)
    try:
        shown = _shown_after(run, terminal, until, sent)
        code = run.wait(20)
        assert not living(run.pid)
    finally:
        os.close(terminal)
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    return code, shown


def _as_on_a_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the tests may be a background job, which ignores it


def _shown_after(run, terminal, until, sent):
    """Send the signals once `until` is shown; return all that the terminal shows until the end."""
    shown, deadline = "", time.monotonic() + 300
    while until not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(terminal, 65536).decode()
    for which in sent:
        time.sleep(1)
        if which == signal.SIGINT:
            os.write(terminal, b"\x03")
        else:
            run.send_signal(which)
    deadline = time.monotonic() + 60
    with suppress(OSError):  # the last process has closed the terminal
        while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            shown += os.read(terminal, 65536).decode()
    return shown


def living(group):
    """Return the processes of a group that are not zombies, which only wait for the init process of a container."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text().rpartition(") ")
            if rest.split()[0] != "Z" and int(rest.split()[2]) == group:
                found.append(name)
    return found


def folder(tmp_path, content):
    for split in ("train", "val"):
        for wnid in ("n1", "n2"):
            (tmp_path / "images" / split / wnid).mkdir(parents=True)
            (tmp_path / "images" / split / wnid / "x.jpg").write_bytes(content)
    return tmp_path / "images"


def test_a_text_file_named_jpg_gets_one_sentence_at_the_end(tmp_path, program):
    source = folder(tmp_path, b"hello, world")
    result = program("flows.shard", "--dataset", "folder", "--archives", source, "--workspace", tmp_path / "w")
    assert result.returncode == 1
    said = result.stdout
    assert "Traceback" not in said
    *_, head, first, second, advice = said.strip().splitlines()
    assert head == "error: 2 images cannot be decoded, of those read so far:"
    bad = [f"  x.jpg, class n{n} ({source}/train/n{n}/x.jpg): not an image; it begins with b'hello, world'" for n in (1, 2)]
    assert sorted((first, second)) == bad
    assert advice == "repair or remove the files, or set bad_images to report to leave such images out and list them"
    assert sum("error" in line.lower() for line in said.splitlines()) == 1
