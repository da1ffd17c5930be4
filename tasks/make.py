"""Jobs in, artefacts out: the one way in which anything is found or made.

Called by every task. What exists is checked and returned; what is missing is made by worker processes and published.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from base.files import atomic_write, write_text
from tasks.artifacts import KEY, FileEntry, begin, differing_in_code, find, key_of, publish, read_manifest
from tasks.cluster import on_cluster
from tasks.gpus import held
from tasks.job import CHECKSUMS, COUNTS, JOB, WORK, Artifact, Job, to_job_file
from tasks.launch import Runner, Unit, launch
from tasks.progress import Display, Log, run_log
from tasks.workspace import Workspace

Finish = Callable[[Job, Path], None]
"""Adds to a job's folder before it is published."""


def make(
    jobs: Sequence[Job],
    workspace: Workspace,
    at_once: int = 1,
    processes: int = 1,
    gpus: Sequence[int] = (),
    finish: Finish = lambda job, directory: None,
    run: Runner = launch,
) -> list[Artifact]:
    """Return the artefacts of the jobs, in order, after making those that are missing.

    `at_once` jobs are made at a time; a stage that can be shared is done by as many `processes`. If the workspace has a
    cluster, its workers do both. Meanwhile GPUs are held. `finish` adds to a job's folder before it is published.

    Raises:
        InputError: a damaged artefact, or something that a worker refused.
        tasks.launch.WorkerError: a worker crashed or was killed.
    """
    log = run_log()
    paths = [place(job, workspace) for job in jobs]
    unique = dict(zip(paths, jobs, strict=True))
    for path, job in unique.items():
        _say_what_there_is(path, job, log)
    missing = {path: job for path, job in unique.items() if find(path, job.large) is None}
    if missing:
        cluster = workspace.cluster if next(iter(missing.values())).spreads else None
        with _here(run, processes, gpus) if cluster is None else on_cluster(cluster, gpus) as (runner, shares):
            _make(missing, at_once, shares, finish, runner, log)
    return [_found(path, job) for path, job in zip(paths, jobs, strict=True)]


@contextmanager
def _here(run: Runner, processes: int, gpus: Sequence[int]) -> Iterator[tuple[Runner, int]]:
    """Hold the GPUs of this machine."""
    with held(gpus):
        yield run, processes


def place(job: Job, workspace: Workspace) -> Path:
    """Return where the artefact of a job is or will be; if the workspace reuses, the newest one that differs in code only."""
    key = key_of(job)
    path = workspace.path / job.folder / key.digest[:12]
    others = differing_in_code(path.parent, key) if workspace.reuse and not path.exists() else []
    return others[0] if others else path


def partial_of(job: Job, workspace: Workspace) -> Path:
    """Return the folder in which a job's artefact is being made."""
    path = place(job, workspace)
    return path.with_name(f"{path.name}.partial")


def _say_what_there_is(path: Path, job: Job, log: Log) -> None:
    """Name the artefact that is found, and any that differs in code only."""
    key = key_of(job)
    if not path.exists():
        for other in differing_in_code(path.parent, key)[:1]:
            commit = read_manifest(other).code_version
            log.info("%s: %s differs in code only (commit %s); making it again, --reuse takes it", job.title, other, commit)
        return
    manifest, here = read_manifest(path), _libraries(job)
    if manifest.code == key.code:
        log.info("%s: found %s", job.title, path)
    else:
        log.info("%s: reusing %s, made by the code of commit %s", job.title, path, manifest.code_version)
    made_with = manifest.libraries
    if differ := [f"{name} {made_with[name]} (here {here[name]})" for name in made_with if here.get(name) != made_with[name]]:
        log.info("%s: made with %s; made here, its last bits could differ", job.title, ", ".join(differ))


def _make(missing: dict[Path, Job], at_once: int, processes: int, finish: Finish, run: Runner, log: Log) -> None:
    """Run the stages of the missing jobs one after another; publish each job as soon as its last stage is done."""
    for path, job in missing.items():
        begun = begin(path, keep=job.resumable)
        if job.resumable:
            write_text(begun / WORK / KEY, json.dumps(key_of(job)._asdict()))
        with atomic_write(begun / JOB) as file:
            file.write(to_job_file(job))
    job = next(iter(missing.values()))
    groups = _groups(list(missing), job, max(at_once, processes))
    with Display(log) as display:
        for stage in job.stages:
            units = {unit: group for group in groups for unit in _units(stage, group, missing, processes)}
            left = Counter(group[0] for group in units.values())
            publish_these = partial(_publish_group, units, left, missing, finish) if stage == job.stages[-1] else _nothing
            run(list(units), max(at_once, processes), display, publish_these)


def _groups(paths: list[Path], job: Job, at_once: int) -> list[list[Path]]:
    """The jobs that one process takes: all, if several share a stage; else as many groups as are made at a time."""
    if not job.together:
        return [[path] for path in paths]
    shared = job.shared_stage is not None and job.num_units(paths[0].with_name(f"{paths[0].name}.partial")) > 0
    number = 1 if shared else min(at_once, len(paths))
    return [paths[first::number] for first in range(number)]


def _publish_group(
    units: dict[Unit, list[Path]], left: Counter[Path], missing: dict[Path, Job], finish: Finish, unit: Unit
) -> None:
    """Publish the jobs of a unit if it was the last one of theirs."""
    left[units[unit][0]] -= 1
    if not left[units[unit][0]]:
        for path in units[unit]:
            _publish(path, missing[path], finish)


def _nothing(unit: Unit) -> None:
    del unit


def _units(stage: str, group: Sequence[Path], missing: dict[Path, Job], processes: int) -> list[Unit]:
    """The processes of one stage of some jobs."""
    job = missing[group[0]]
    files = [str(path.with_name(f"{path.name}.partial") / JOB) for path in group]
    total = min(processes, job.num_units(Path(files[0]).parent)) if stage == job.shared_stage else 1
    title = job.title if len(group) == 1 else f"{job.title} and {len(group) - 1} more"
    return [Unit(stage, (*files, f"{number}/{total}"), title) for number in range(total)]


def _publish(path: Path, job: Job, finish: Finish) -> None:
    partial = path.with_name(f"{path.name}.partial")
    finish(job, partial)
    checksums = partial / WORK / CHECKSUMS
    known = json.loads(checksums.read_bytes()) if checksums.exists() else {}
    publish(
        path,
        key_of(job),
        json.loads((partial / COUNTS).read_bytes()),
        {name: FileEntry.model_validate(entry) for name, entry in known.items()},
        _libraries(job),
    )


def _libraries(job: Job) -> dict[str, str]:
    return {name: version(name) for name in job.libraries}


def _found(path: Path, job: Job) -> Artifact:
    artifact = find(path, sizes_only=True)
    if artifact is None:
        raise RuntimeError(f"{job.title} ended without leaving {path}")
    return artifact
