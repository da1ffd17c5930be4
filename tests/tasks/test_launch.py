"""Workers as real children: what they say is heard, how they fail is told, and none of them is left behind."""

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

from data_shards.datasets.dataset import Split
from data_shards.datasets.source import Source
from data_shards.planning import ShardConfig, plan_shards
from tasks.artifacts import ROOT
from tasks.launch import Job, WorkerError, launch
from tasks.workers.jobs import ColoursJob, SetJob, ShardJob

Processes = Callable[[Path], dict[int, str]]
WaitFor = Callable[[Callable[[], bool], str], None]

SMALL = Source(kind="synthetic", train_per_class=1, val_per_class=1)
ENDLESS = Source(kind="synthetic", train_per_class=5_000)
"""A hundred thousand images: minutes of work."""


def shard_job(directory: Path, source: Source = SMALL, split: Split = "train") -> Job:
    """Plan a sharding in a folder of its own, and write the job file of all of its shards."""
    directory.mkdir()
    config = ShardConfig(storage="square64", samples_per_shard=16)
    path = source.path
    num_shards = len(plan_shards(source.open(directory), split, config, directory)) if path is None or path.exists() else 1
    places = {"unpack_dir": directory, "lists": {}, "directory": directory, "work": directory}
    job = ShardJob(source=source, split=split, config=config, **places, start=0, stop=num_shards, step=1)
    (directory / "job.json").write_text(job.model_dump_json())
    return Job("shard", directory / "job.json", directory.name)


class Heard:
    """What `launch` passed on."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.done: list[str] = []

    def say(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def finish(self, job: Job) -> None:
        self.done.append(job.name)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_a_worker_does_its_job_and_is_heard_line_by_line(tmp_path: Path, heard: Heard, processes: Processes) -> None:
    launch([shard_job(tmp_path / "a")], 1, heard.say, heard.finish)
    assert heard.done == ["a"]
    assert [name for name, _ in heard.lines] == ["a", "a"]
    assert all(re.fullmatch(rf"\+ {n} \d+", line) for n, (_, line) in zip((16, 4), heard.lines, strict=True))
    assert {path.name for path in (tmp_path / "a").glob("*.tar")} == {"train-00000.tar", "train-00001.tar"}
    assert not processes(tmp_path)


def test_no_pipe_is_left_to_the_collector(tmp_path: Path, heard: Heard) -> None:
    jobs = [shard_job(tmp_path / "a"), missing_source(tmp_path / "b")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="nowhere"):
            launch(jobs, 1, heard.say, heard.finish)
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


def test_no_job_is_no_work(heard: Heard) -> None:
    launch([], 1, heard.say, heard.finish)
    assert (heard.lines, heard.done) == ([], [])


def colours_job(directory: Path) -> Job:
    directory.mkdir()
    (directory / "job.json").write_text(ColoursJob(shards=directory / "nowhere", num_threads=1).model_dump_json())
    return Job("colours", directory / "job.json", "colours")


def missing_source(directory: Path) -> Job:
    return shard_job(directory, Source(kind="folder", path=directory / "nowhere"))


def wrong_split(directory: Path) -> Job:
    job = shard_job(directory)
    planned = ShardJob.model_validate_json(job.config.read_bytes()).model_dump(exclude={"start", "stop", "step"})
    job.config.write_text(SetJob(**{**planned, "split": "test"}).model_dump_json())
    return job._replace(worker="plan")


def cut_images(directory: Path) -> Job:
    """A folder whose images cannot be decoded."""
    for split, name in (("train", "a/1.jpg"), ("train", "b/2.jpg")):
        path = directory.with_name("images") / split / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\xff\xd8\xff\xe0 no more")
    return shard_job(directory, Source(kind="folder", path=directory.with_name("images")))


def wrong_field(directory: Path) -> Job:
    directory.mkdir()
    (directory / "job.json").write_text('{"split": "train"}')
    return Job("shard", directory / "job.json", "wrong")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (colours_job, "^.*/a/nowhere is no shard set: it lacks samples.parquet or classes.parquet; make one with python -m"),
        (missing_source, "^no .*/a/nowhere; give the path of the folder images$"),
        (wrong_split, "^found split 'test' of a synthetic data set; only train and val are drawn, so score on val$"),
        (cut_images, r"^2 images cannot be decoded; they are listed in .*/a/bad/train-00000.tar.json$"),
    ],
)
def test_input_that_a_worker_refuses_is_told_in_its_own_sentence(
    tmp_path: Path, heard: Heard, processes: Processes, make: Callable[[Path], Job], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        launch([make(tmp_path / "a")], 1, heard.say, heard.finish)
    assert heard.done == []
    assert not any("Traceback" in line for _, line in heard.lines)
    assert not processes(tmp_path)


def test_a_worker_that_crashes_is_told_apart_by_its_last_lines(tmp_path: Path, heard: Heard) -> None:
    with pytest.raises(
        WorkerError, match="^crash ended with code 1; its last lines were:\n(.*\n)*.*No module named tasks.workers.none$"
    ):
        launch([Job("none", tmp_path / "job.json", "crash")], 1, heard.say, heard.finish)
    assert heard.done == []


def test_a_worker_that_is_killed_is_told_with_the_signal(
    tmp_path: Path, heard: Heard, processes: Processes, wait_for: WaitFor
) -> None:
    job = shard_job(tmp_path / "a", ENDLESS)
    started = threading.Event()

    def kill() -> None:
        assert started.wait(30)
        (worker,) = processes(tmp_path)
        os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(WorkerError, match=r"^a was killed by signal 9; its last lines were:\n\+ 16 \d+"):
        launch([job], 1, lambda name, line: started.set(), heard.finish)
    killer.join()
    assert heard.done == []
    wait_for(lambda: not processes(tmp_path), "a killed worker goes on")


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_workers_run_than_are_allowed_at_once(tmp_path: Path, heard: Heard, processes: Processes, at_once: int) -> None:
    jobs = [shard_job(tmp_path / name) for name in "abc"]
    most = 0

    def count(name: str, line: str) -> None:
        nonlocal most
        running = {command.rsplit(" ", 2)[-2] for command in processes(tmp_path).values()}
        most = max(most, len(running))

    launch(jobs, at_once, count, heard.finish)
    assert sorted(heard.done) == ["a", "b", "c"]
    assert most == at_once


def test_jobs_are_taken_in_order(tmp_path: Path, heard: Heard) -> None:
    jobs = [missing_source(tmp_path / "a"), shard_job(tmp_path / "b")]
    with pytest.raises(ValueError, match="/a/nowhere"):
        launch(jobs, 1, heard.say, heard.finish)
    assert heard.done == []
    assert not list((tmp_path / "b").glob("train-*")), "a job was begun after one had failed"


def test_where_one_fails_the_others_are_stopped(tmp_path: Path, heard: Heard, processes: Processes, wait_for: WaitFor) -> None:
    jobs = [shard_job(tmp_path / "endless", ENDLESS), missing_source(tmp_path / "a")]
    with pytest.raises(ValueError, match="/a/nowhere"):
        launch(jobs, 2, heard.say, heard.finish)
    assert heard.done == []
    wait_for(lambda: not processes(tmp_path), "a worker goes on after another failed")


def test_an_error_in_the_flow_stops_its_workers(tmp_path: Path, heard: Heard, processes: Processes, wait_for: WaitFor) -> None:
    def interrupt(name: str, line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch([shard_job(tmp_path / "a", ENDLESS)], 1, interrupt, heard.finish)
    wait_for(lambda: not processes(tmp_path), "a worker goes on after its flow was interrupted")


LAUNCH = """
import sys
from pathlib import Path
from tasks.launch import Job, launch
jobs = [Job("shard", Path(folder) / "job.json", "a") for folder in sys.argv[1:]]
launch(jobs, len(jobs), lambda name, line: print(line, flush=True), print)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_takes_its_workers_along(
    tmp_path: Path, processes: Processes, wait_for: WaitFor, how: signal.Signals
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    command = [sys.executable, "-c", LAUNCH, *(str(shard_job(folder, ENDLESS).config.parent) for folder in folders)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        wait_for(lambda: all(list(folder.glob("*.tar")) for folder in folders), "the two workers did not start")
        workers = [command for command in processes(tmp_path).values() if command.endswith("/job.json ")]
        assert len(workers) == 2
        assert all("tasks.workers.shard" in command for command in workers)
        run.send_signal(how)
        assert run.wait(10) == -how
        wait_for(lambda: not processes(tmp_path), "workers go on after their run was killed")


def test_a_worker_whose_run_is_gone_before_it_begins_does_nothing(tmp_path: Path) -> None:
    job = shard_job(tmp_path / "a")
    command = [sys.executable, "-m", "tasks.workers.shard", str(job.config)]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "ALEXNET_PARENT_PID": "1"}, capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    assert not list((tmp_path / "a").glob("train-*"))


@pytest.mark.parametrize("arguments", [[], ["a.json", "b.json"]])
def test_a_worker_says_how_it_is_called(arguments: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-m", "tasks.workers.shard", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert ended.stdout == "error: expected one job file: python -m tasks.workers.shard JOB.json\n"
