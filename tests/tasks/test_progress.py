"""What people see of running work: in a log, in a real pseudo-terminal, and in the UI of a real server."""

import fcntl
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextvars import Context

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from base.progress import Message
from tasks import progress
from tasks.code import ROOT
from tasks.launch import STARTING, Unit
from tasks.progress import Display, Shown

LOG = logging.getLogger("test of progress")
A, B = Unit("train", ("a.json",), "a"), Unit("train", ("b.json",), "b")
SHARES = [Unit("shard", ("s.json", f"{number}/2"), "shards") for number in range(2)]


class Clock:
    """Time that passes when a test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


@pytest.fixture
def lines(caplog):
    """Return a function that returns what was logged since its last call."""
    caplog.set_level(logging.INFO, LOG.name)

    def take():
        found = [record.getMessage() for record in caplog.records if record.name == LOG.name]
        caplog.clear()
        return found

    return take


def images(done, total=100, text="", **values):
    return Message(done, total, "images", text, values)


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(clock, lines):
    with Display(LOG) as display:
        display(A, STARTING)
        for done in range(0, 101, 2):
            display(A, images(done, text=f"epoch {done // 50}/2"))
            clock.now += 0.5
    assert lines() == [
        "a: starting (train)",
        "a:  40%  40/100 images  4 images/s  15 s left  epoch 0/2",
        "a:  80%  80/100 images  4 images/s  5 s left  epoch 1/2",
        "a: 100%  100/100 images  4 images/s  in 25 s  epoch 2/2",
    ]


def test_the_last_line_comes_once(clock, lines):
    with Display(LOG) as display:
        for _ in range(3):
            display(A, images(100))
            clock.now += 60
    assert lines() == ["a: 100%  100/100 images"]


def test_an_announced_job_is_not_logged_before_it_starts(clock, lines):
    with Display(LOG) as display:
        display(A, Message())
        assert lines() == []
        display(A, STARTING)
        assert lines() == ["a: starting (train)"]


def test_sentences_are_always_logged_with_the_name_if_there_are_several_jobs(clock, lines):
    with Display(LOG) as display:
        display(A, Message(text="one"))
        display(A, Message(text="two"))
        display(B, Message())
        display(A, Message(text="three"))
    assert lines() == ["one", "two", "a: three"]


def test_the_units_of_a_job_are_added_up(clock, lines):
    with Display(LOG) as display:
        for unit in SHARES:
            display(unit, Message())
        display(SHARES[0], images(0, 1000, bytes=0.0))
        assert lines() == ["shards:   0%  0/2,000 images"], "the unit that has not reported was not counted"
        display(SHARES[1], images(0, 3000, bytes=0.0))
        clock.now += 10
        display(SHARES[0], images(1000, 1000, bytes=1e9))
        assert lines() == ["shards:  25%  1,000/4,000 images  100 images/s  100 MB/s  30 s left"]
        clock.now += 10
        display(SHARES[1], images(1500, 3000, bytes=2e9))
        assert lines() == ["shards:  62%  2,500/4,000 images  125 images/s  150 MB/s  12 s left"]
        display(SHARES[1], images(3000, 3000, bytes=3e9))
        assert lines() == ["shards: 100%  4,000/4,000 images  200 images/s  200 MB/s  in 20 s"]


def test_rates_count_only_what_this_run_has_done(clock, lines):
    with Display(LOG) as display:
        display(A, STARTING)
        clock.now += 5
        display(A, images(900, 1000, bytes=9e9))
        clock.now += 10
        display(A, images(950, 1000, bytes=9.5e9))
    assert lines() == ["a: starting (train)", "a:  95%  950/1,000 images  5 images/s  50 MB/s  10 s left"]


def test_bytes_are_shown_as_gigabytes(clock, lines):
    with Display(LOG) as display:
        display(A, Message(0, 8e9, "bytes"))
        clock.now += 100
        display(A, Message(2e9, 8e9, "bytes"))
    assert lines() == ["a:   0%  0.00/8.00 GB", "a:  25%  2.00/8.00 GB  20 MB/s  5 min left"]


def test_a_new_stage_of_a_job_counts_from_zero_and_does_not_start_again_in_the_log(clock, lines):
    with Display(LOG) as display:
        display(A._replace(worker="plan"), STARTING)
        display(A, STARTING)
        display(A, images(0, 10))
        clock.now += 4
        display(A, images(10, 10))
        display(A._replace(worker="close"), STARTING)
        display(A._replace(worker="close"), Message(1, 1, "files"))
    assert lines() == ["a: starting (plan)", "a: 100%  10/10 images  2.5 images/s  in 4 s", "a: 100%  1/1 files"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (18600, "5 h 10 min"), (7200, "2 h 0 min")],
)
def test_a_duration_is_short(seconds, text):
    assert progress.duration(seconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"), [(0.0123, "0.012 a/s"), (9.87, "9.9 a/s"), (12.6, "13 a/s"), (1e4, "10,000 a/s")]
)
def test_a_rate_has_two_digits_or_more(per_second, text):
    assert progress.rate(per_second, "a") == text


SHOW = """
import time
from prefect.logging.configuration import setup_logging
setup_logging()
from base.progress import Message
from tasks.launch import STARTING, Unit
from tasks.progress import Display, run_log
a, b, c = (Unit("train", (), f"[job {name}]") for name in "abc")
with Display(run_log()) as display:
    for unit in (a, b, c):
        display(unit, Message())
    display(a, STARTING)
    time.sleep(1)
    for done in range(11):
        display(a, Message(done, 10, "images", f"epoch {done}"))
        if done == 3:
            display(b, STARTING)
            display(a, Message(text="a sentence"))
        time.sleep(0.1)
    display(a._replace(worker="close"), STARTING)
    time.sleep(0.5)
"""


def show(columns, output):
    """Run `SHOW` and return what it writes to a terminal of so many columns, or to a pipe."""
    command = [sys.executable, "-c", SHOW]
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}}
    environment["TERM"] = "xterm"
    if output == "pipe":
        return subprocess.run(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, check=True, timeout=60
        ).stderr.decode()
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        data = b""
        while True:
            try:
                chunk = os.read(controller, 65536)
            except OSError:  # Linux raises EIO when the other side is closed
                break
            data += chunk
    os.close(controller)
    assert process.returncode == 0
    return data.decode()


def plain(text):
    """Return the lines as they were written, without escape sequences: a redrawn line is there once for each time."""
    return [line.strip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))]


@pytest.mark.parametrize("columns", [80, 200])
def test_in_a_terminal_each_running_job_has_one_line_that_is_redrawn(columns):
    written = show(columns, "terminal")
    assert written.count("\x1b[1A") >= 5, "the cursor never went up: nothing was redrawn"
    lines = plain(written)
    assert all(len(line) <= columns for line in lines)
    seen = [line for line in lines if "[job a]" in line]
    assert re.fullmatch(r"\S \[job a\] ━+ starting \(train\)", seen[0])
    percents = [int(found[1]) for line in seen if (found := re.search(r"(\d+)%", line))]
    assert percents == sorted(percents)
    assert len(set(percents)) >= 4
    assert re.fullmatch(r"\[job a\] ━+ 100%  10/10 images  [\d.]+ images/s  in 1 s  epoch 10", seen[-1]), "not left there"
    assert any(re.fullmatch(r"\S \[job a\] ━+ starting \(close\)", line) for line in seen)
    assert any(re.fullmatch(r"\S \[job b\] ━+ starting \(train\)", line) for line in lines)
    assert "[job c]" not in written, "a job that waits is shown as running"


def test_a_terminal_shows_sentences_above_the_live_lines_and_no_numbers_in_the_log():
    logged = [line for line in plain(show(200, "terminal")) if "prefect.tasks" in line]
    assert [line.split(" - ")[1] for line in logged] == ["[job a]: a sentence"]


def test_a_pipe_gets_short_lines_without_escapes():
    written = show(80, "pipe")
    assert "\x1b" not in written
    lines = [line.split(" - ")[1] for line in written.splitlines()]
    assert lines[:3] == ["[job a]: starting (train)", "[job b]: starting (train)", "[job a]: a sentence"]
    assert re.fullmatch(r"\[job a\]: 100%  10/10 images  [\d.]+ images/s  in 1 s  epoch 10", lines[3])
    assert len(lines) == 4


def read_artifact(display):
    with get_client(sync_client=True) as client:
        found = client.request("GET", "/artifacts/{id}", path_params={"id": display.artifact.artifact_id}).json()
    return found["description"], found["data"]


def continue_without_server(display, clock):
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        for done in (60, 70):
            clock.now += 10
            display(A, images(done))


@flow
def work(clock):
    read = []
    with Display(LOG) as display:
        display(A, Message())
        display(B, Message())
        display(A, images(50))
        read.append(read_artifact(display))
        clock.now += 3
        display(A, images(100))
        read.append(read_artifact(display))
        clock.now += 3
        display(B, images(50))
        read.append(read_artifact(display))
        display(B, images(100))
        read.append(read_artifact(display))
    return read


@pytest.mark.usefixtures("prefect_server")
def test_the_bar_in_the_ui_is_the_mean_of_the_jobs_every_five_seconds(clock):
    assert work(clock) == [("a, b", 25.0), ("a, b", 25.0), ("a, b", 75.0), ("a, b", 100.0)]


@flow
def lose_server(clock):
    with Display(LOG) as display:
        display(A, images(50))
        shown = read_artifact(display)
        Context().run(continue_without_server, display, clock)  # in the run's own context the client keeps its address
    return shown


@pytest.mark.usefixtures("prefect_server")
def test_a_server_that_goes_away_is_mentioned_once_and_the_run_continues(clock, lines):
    assert lose_server(clock) == ("a", 50.0)
    assert lines() == [
        "a:  50%  50/100 images",
        "a:  60%  60/100 images  1 images/s  40 s left",
        "could not report progress to the server; the run continues",
        "a:  70%  70/100 images  1 images/s  30 s left",
    ]


def test_what_this_process_reports_itself_is_shown_as_that_of_a_unit():
    heard, unit = [], Unit("copy", (), "copy of parquet train")
    Shown(lambda *words: heard.append(words), unit).report(5, 5, "bytes", "2 files")
    assert heard == [(unit, Message(5, 5, "bytes", "2 files"))]
