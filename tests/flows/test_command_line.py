"""The flows as programs, run as a user would."""

import fcntl
import importlib
import inspect
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return the folder of Prefect's database, which takes ten seconds to make."""
    return tmp_path_factory.mktemp("home")


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
]


def call(flow, *options, home, **variables):
    return call_module(f"flows.{flow}", *options, home=home, **variables)


def call_module(module, *options, home, **variables):
    command = [sys.executable, "-m", module, *map(str, options)]
    environment = {"PREFECT_HOME": str(home), "PATH": "/usr/bin:/bin", "HOME": str(home), **variables}
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, timeout=120, check=False
    )


@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_of_a_flow_is_an_option_with_help(name, tmp_path):
    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    result = call(name, "--help", home=tmp_path)
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
def test_a_wrong_option_gets_one_sentence(flow, options, message, home):
    result = call(flow, *options, home=home)
    assert result.returncode != 0
    assert message in " ".join(result.stdout.replace("│", " ").split())
    assert "Traceback" not in result.stdout


def test_a_server_that_is_not_there_gets_one_sentence(tmp_path):
    result = call("train", home=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
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
def test_an_error_that_the_user_can_correct_ends_in_one_sentence(flow, message, home):
    result = call_module("tests.flows.planted", *flow, home=home)
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
def test_a_bug_in_a_task_or_a_worker_keeps_its_traceback_which_is_shown_once(flow, place, message, home):
    result = call_module("tests.flows.planted", flow, home=home)
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


@pytest.mark.parametrize(
    ("flow", "sent", "code", "sentence"),
    [
        ("endless", [signal.SIGINT], 130, f"interrupted: nothing was made yet{CONTINUES}"),
        ("endless", [signal.SIGTERM], 143, f"interrupted: nothing was made yet{CONTINUES}"),
        (
            "stubborn",
            [signal.SIGINT],
            130,
            f"interrupted: made keeps every finished step and the last checkpoint of a training{CONTINUES}",
        ),
        ("stubborn", [signal.SIGINT] * 2, 130, f"interrupted twice: ended at once{CONTINUES}"),
    ],
)
def test_ctrl_c_and_sigterm_end_a_run_its_workers_and_its_server(flow, sent, code, sentence, home):
    """On a terminal, which sends SIGINT to every process; SIGTERM is for the flow's process alone."""
    terminal, inside = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.flows.planted", flow],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"},
        preexec_fn=_as_on_a_terminal,
    )
    os.close(inside)
    try:
        shown = _shown_after(run, terminal, sent)
        assert run.wait(20) == code, shown
        assert shown.splitlines()[-1] == sentence
        assert "Traceback" not in shown
        assert not living(run.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def _as_on_a_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the tests may be a background job, which ignores it


def _shown_after(run, terminal, sent):
    """Send the signals once the worker has said something; return all that the terminal shows until the end."""
    shown, deadline = "", time.monotonic() + 90
    while "0/1 images" not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(terminal, 65536).decode()
    time.sleep(2)
    for which in sent:
        if which == signal.SIGINT:
            os.write(terminal, b"\x03")
        else:
            run.send_signal(which)
        time.sleep(1)
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


def test_a_text_file_named_jpg_gets_one_sentence_at_the_end(tmp_path, home):
    source = folder(tmp_path, b"hello, world")
    result = call("shard", "--dataset", "folder", "--archives", source, "--workspace", tmp_path / "w", home=home)
    assert result.returncode == 1
    said = result.stdout
    assert "Traceback" not in said
    *_, head, first, second, advice = said.strip().splitlines()
    assert head == "error: 2 images cannot be decoded, of those read so far:"
    bad = [f"  x.jpg, class n{n} ({source}/train/n{n}/x.jpg): not an image; it begins with b'hello, world'" for n in (1, 2)]
    assert sorted((first, second)) == bad
    assert advice == "repair or remove them, or set bad_images to report to leave such images out and list them"
    assert sum("error" in line.lower() for line in said.splitlines()) == 1
