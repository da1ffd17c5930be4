"""Workers as real child processes: their messages arrive, their failures are explained, and none of them is left running."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from base.errors import InputError
from base.progress import Message
from tasks import launch as launch_module
from tasks.code import ROOT
from tasks.launch import STARTING, Unit, WorkerError, count_oom_kills, launch

Processes = Callable[[Path], dict[int, str]]
WaitFor = Callable[[Callable[[], bool], str], None]


@pytest.fixture(autouse=True)
def _workers_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_module, "WORKERS", "tests.tasks")


def unit(directory: Path, *words: str) -> Unit:
    directory.mkdir(exist_ok=True)
    return Unit("planted", (str(directory / "job.json"), *words), directory.name)


class Heard:
    """What `launch` passed on."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message]] = []
        self.done: list[str] = []

    def hear(self, unit: Unit, message: Message) -> None:
        self.messages.append((unit.name, message))

    def finish(self, unit: Unit) -> None:
        self.done.append(unit.name)

    @property
    def texts(self) -> list[str]:
        return [message.text for _, message in self.messages if message.text and message != STARTING]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_a_worker_does_its_job_and_its_messages_arrive(tmp_path: Path, heard: Heard, processes: Processes) -> None:
    launch([unit(tmp_path / "a", "count")], 1, heard.hear, heard.finish)
    finished = Message(4, 4, "images", values={"bytes": 2e6})
    assert heard.messages == [("a", Message()), ("a", STARTING), ("a", Message(text="begins")), ("a", finished)]
    assert heard.done == ["a"]
    assert not processes(tmp_path)


def test_lines_are_passed_on_whole_whatever_bytes_they_have(tmp_path: Path, heard: Heard) -> None:
    launch([unit(tmp_path / "a", "odd_bytes")], 1, heard.hear, heard.finish)
    assert heard.texts == ["caf\N{REPLACEMENT CHARACTER}", "half a line"]


def test_all_units_are_announced_before_the_first_starts(tmp_path: Path, heard: Heard) -> None:
    launch([unit(tmp_path / name, "count") for name in "ab"], 1, heard.hear, heard.finish)
    assert heard.messages[:3] == [("a", Message()), ("b", Message()), ("a", STARTING)]


def test_no_pipe_is_left_to_the_collector(tmp_path: Path, heard: Heard) -> None:
    units = [unit(tmp_path / "a", "count"), unit(tmp_path / "b", "refuse")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(InputError):
            launch(units, 1, heard.hear, heard.finish)
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


def test_no_units_are_no_work(heard: Heard) -> None:
    launch([], 1, heard.hear, heard.finish)
    assert (heard.messages, heard.done) == ([], [])


def test_input_that_a_worker_refuses_raises_its_sentence(tmp_path: Path, heard: Heard, processes: Processes) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path}/a/job.json is wrong; it was Tuesday$"):
        launch([unit(tmp_path / "a", "refuse")], 1, heard.hear, heard.finish)
    assert (heard.texts, heard.done) == ([], [])
    assert not processes(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bug"], r"a: the worker 'planted' ended with exit code 1; its last lines:\nTraceback .*\nIndexError: [^\n]*"),
        (["deep_bug"], r"a: .* exit code 1; its last lines:\nTraceback .*\nZeroDivisionError: at the bottom"),
        (["leave", "7"], "a: .* ended with exit code 7; its last lines:\n" + "\n".join(f"line {n}" for n in range(10, 30))),
        (["leave", "3"], "a: .* ended with exit code 3; its last lines:\nline 10\n.*"),
        (
            ["segfault"],
            r"a: .* was killed by SIGSEGV; its last lines:\nFatal Python error: Segmentation fault\n.*in segfault\n.*",
        ),
    ],
)
def test_a_crash_is_explained_with_the_last_lines(tmp_path: Path, heard: Heard, words: list[str], message: str) -> None:
    with pytest.raises(WorkerError) as caught:
        launch([unit(tmp_path / "a", *words)], 1, heard.hear, heard.finish)
    assert re.fullmatch(message, str(caught.value), re.DOTALL), caught.value
    assert heard.done == []


def test_a_traceback_is_in_the_error_only(tmp_path: Path, heard: Heard) -> None:
    with pytest.raises(WorkerError, match="IndexError"):
        launch([unit(tmp_path / "a", "bug")], 1, heard.hear, heard.finish)
    assert heard.texts == ["a warning"]


def test_a_traceback_that_a_worker_survives_is_passed_on(tmp_path: Path, heard: Heard) -> None:
    launch([unit(tmp_path / "a", "forgiven_bug")], 1, heard.hear, heard.finish)
    assert heard.texts == ["Traceback (most recent call last):", "ValueError: forgiven"]
    assert heard.done == ["a"]


def test_a_worker_that_does_not_exist_is_a_bug(tmp_path: Path, heard: Heard) -> None:
    with pytest.raises(WorkerError, match="(?s)^a: .* ended with exit code 1; .*No module named tests.tasks.none$"):
        launch([unit(tmp_path / "a")._replace(worker="none")], 1, heard.hear, heard.finish)


@pytest.mark.parametrize(
    ("how", "oom", "message"),
    [
        (signal.SIGKILL, 0, "was killed by SIGKILL"),
        (signal.SIGKILL, 1, "was killed by SIGKILL (the kernel killed it because memory ran out)"),
        (signal.SIGTERM, 1, "was killed by SIGTERM (the kernel killed a process because memory ran out)"),
    ],
)
def test_a_worker_that_is_killed_is_explained_by_the_signal(
    tmp_path: Path,
    heard: Heard,
    processes: Processes,
    wait_for: WaitFor,
    monkeypatch: pytest.MonkeyPatch,
    how: signal.Signals,
    oom: int,
    message: str,
) -> None:
    counts = iter([count_oom_kills(), count_oom_kills() + oom])
    monkeypatch.setattr(launch_module, "count_oom_kills", lambda: next(counts))

    def kill() -> None:
        wait_for(lambda: (tmp_path / "a" / "started").exists(), "the worker did not start")
        (worker,) = processes(tmp_path)
        os.kill(worker, how)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(WorkerError, match=re.escape(f"{message}; its last lines:\n(none)") + "$"):
        launch([unit(tmp_path / "a", "hang")], 1, heard.hear, heard.finish)
    killer.join()
    assert heard.done == []
    wait_for(lambda: not processes(tmp_path), "a killed worker goes on")


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_workers_run_than_are_allowed_at_once(tmp_path: Path, heard: Heard, processes: Processes, at_once: int) -> None:
    most = 0

    def count(unit: Unit, message: Message) -> None:
        nonlocal most
        most = max(most, len(processes(tmp_path)))

    launch([unit(tmp_path / name, "count_slowly") for name in "abc"], at_once, count, heard.finish)
    assert sorted(heard.done) == ["a", "b", "c"]
    assert most == at_once


def test_units_start_in_order(tmp_path: Path, heard: Heard) -> None:
    units = [unit(tmp_path / "a", "refuse"), unit(tmp_path / "b", "hang")]
    with pytest.raises(InputError, match="/a/job.json is wrong"):
        launch(units, 1, heard.hear, heard.finish)
    assert heard.done == []
    assert not (tmp_path / "b" / "started").exists(), "a unit started after one had failed"


def test_if_one_fails_the_others_are_stopped(tmp_path: Path, heard: Heard, processes: Processes, wait_for: WaitFor) -> None:
    units = [unit(tmp_path / "endless", "hang"), unit(tmp_path / "a", "refuse")]
    with pytest.raises(InputError, match="/a/job.json is wrong"):
        launch(units, 2, heard.hear, heard.finish)
    assert heard.done == []
    wait_for(lambda: not processes(tmp_path), "a worker goes on after another failed")


def test_an_error_in_the_flow_stops_its_workers(tmp_path: Path, heard: Heard, processes: Processes, wait_for: WaitFor) -> None:
    def interrupt(unit: Unit, message: Message) -> None:
        if message.unit:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch([unit(tmp_path / "a", "hang")], 1, interrupt, heard.finish)
    wait_for(lambda: not processes(tmp_path), "a worker goes on after its flow was interrupted")


@pytest.mark.parametrize(("worker", "arenas"), [("planted", "None"), ("predict", "1")])
def test_workers_keep_memory_and_prediction_has_one_heap(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch, worker: str, arenas: str
) -> None:
    monkeypatch.setattr(launch_module, "ENVIRONMENT_OF", {"planted": launch_module.ENVIRONMENT_OF.get(worker, {})})
    launch([unit(tmp_path / "a", "show", "MALLOC_MMAP_MAX_", "MALLOC_ARENA_MAX")], 1, heard.hear, heard.finish)
    assert heard.texts == ["MALLOC_MMAP_MAX_=0", f"MALLOC_ARENA_MAX={arenas}"]


LAUNCH = """
import sys
from tasks import launch
launch.WORKERS = "tests.tasks"
units = [launch.Unit("planted", (f"{folder}/job.json", "hang_with_child"), "a") for folder in sys.argv[1:]]
launch.launch(units, len(units), lambda unit, message: None, print)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_takes_its_workers_and_their_children_along(
    tmp_path: Path, processes: Processes, wait_for: WaitFor, how: signal.Signals
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", LAUNCH, *map(str, folders)], cwd=ROOT, stdout=subprocess.PIPE) as run:
        wait_for(lambda: all((folder / "started").exists() for folder in folders), "the two workers did not start")
        workers = [command for command in processes(tmp_path).values() if " tests.tasks.planted" in command]
        assert len(workers) == 4
        run.send_signal(how)
        assert run.wait(10) == -how
        wait_for(lambda: not processes(tmp_path), "workers go on after their run was killed")


def test_a_worker_whose_run_died_before_it_starts_does_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.tasks.planted", str(tmp_path / "job.json"), "hang"]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "ALEXNET_PARENT_PID": "1"}, capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "started").exists()
