"""A dataset's split to a set of shards, and a training set's shards to its colours.

A set is planned, its shards are written by processes side by side, each as far as it is not there yet, and then it is closed.
What that needs lies in a folder beside the set, `<digest>.work`, until the set is finished.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from prefect import task
from pydantic import BaseModel, ConfigDict

from data_shards.datasets.dataset import Split
from data_shards.datasets.members import identity
from data_shards.datasets.source import Source
from data_shards.planning import PLAN_FILE, Plan, ShardConfig
from data_shards.writing import BadImage, part_path
from tasks.artifacts import COUNTS, JOB, Artifact, FileEntry, Recipe, begin, find, location, publish, recipe, write_synced
from tasks.launch import Job, launch
from tasks.progress import Bar
from tasks.steps import Step, make, processors, read_counts, run_log
from tasks.workers.jobs import BAD, CHECKSUMS, MEMBERS, ChecksumJob, ColoursJob, MembersJob, SetJob, ShardJob

SHARDING_CODE = (
    "data_shards.datasets",
    "data_shards.images",
    "data_shards.scaling",
    "data_shards.planning",
    "data_shards.writing",
    "data_shards.listing",
)
MAX_BAD_NAMED = 40


class PlannedSet(BaseModel):
    """A set of shards that is being made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """How people call it in the log."""
    path: Path
    """Where it will lie when it is finished."""
    recipe: Recipe
    job: SetJob
    num_shards: int
    num_samples: int


@task(task_run_name="shard {source.kind} {split}")
def shard_split(source: Source, split: Split, config: ShardConfig, workspace: Path, num_workers: int | None = None) -> Artifact:
    """Write one split as shards, or find them: `shards/<dataset>/<split>/<digest>`."""
    planned = plan_split(source, split, config, workspace)
    if isinstance(planned, Artifact):
        return planned
    bar = Bar(planned.name, planned.num_samples, num_written(planned), run_log())
    write_shards(planned, range(planned.num_shards), num_workers or processors(), bar.add)
    return close_split(planned)


def plan_split(source: Source, split: Split, config: ShardConfig, workspace: Path) -> PlannedSet | Artifact:
    """List what lies in the split's archives and plan its shards, or find the finished set.

    Raises:
        ValueError: a damaged set, one that leaves out images where that is an error, or a source that is not as it should be.
    """
    log, unpack_dir = run_log(), workspace / "sources"
    dataset = source.open(unpack_dir)
    # What is done about bad images does not change a set that has none, and `_accept` looks at one that has.
    made_from = recipe(
        {"dataset": dataset.identity(split)}, config.model_dump(mode="json", exclude={"bad_images"}), *SHARDING_CODE
    )
    path = location(workspace / "shards" / dataset.name / split, made_from)
    work = path.with_name(f"{path.name}.work")
    name = f"shards of {dataset.name} {split}"
    found = find(path, sizes_only=True)
    if found is not None:
        shutil.rmtree(work, ignore_errors=True)  # a run was killed when all was done but this
        log.info("%s: found %s", name, path)
        return _accept(found, config)
    lists = {archive: list_members(archive, workspace) for archive in dataset.archives(split)}
    begun = (work / PLAN_FILE).exists() and path.with_name(f"{path.name}.partial").exists()
    if not begun:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / BAD, ignore_errors=True)  # of a run that ended with it; here, before the slices of a cluster share it
    job = SetJob(
        source=source,
        split=split,
        config=config,
        unpack_dir=unpack_dir,
        lists=lists,
        directory=begin(path, keep=begun),
        work=work,
    )
    if not begun:
        _run("plan", job, name)
    plan = Plan(work)
    return PlannedSet(name=name, path=path, recipe=made_from, job=job, num_shards=len(plan), num_samples=plan.num_samples)


def num_written(planned: PlannedSet) -> int:
    """Return how many of the set's samples lie in shards that are there already, and say so where there are any."""
    plan = Plan(planned.job.work)
    written = [number for number in range(len(plan)) if part_path(plan.name_of(number), planned.job.work).exists()]
    if written:
        run_log().info("%s: %d of %d shards are there already", planned.name, len(written), len(plan))
    return sum(map(plan.num_samples_of, written))


def write_shards(planned: PlannedSet, numbers: range, at_once: int, add: Callable[[int, int], None]) -> None:
    """Write those of a planned set's shards that are not there yet, in `at_once` processes side by side.

    `add(images, bytes)` hears of each shard when it is written.

    Raises:
        ValueError: images that cannot be decoded, all that were found so far, or another fault of the source.
        tasks.launch.WorkerError: a process crashed or was killed.
    """
    log, bad = run_log(), planned.job.work / BAD

    def say(name: str, line: str) -> None:
        if line.startswith("+ "):
            images, num_bytes = map(int, line.split()[1:])
            add(images, num_bytes)
        else:
            log.info("%s: %s", name, line)

    try:
        launch(_shard_jobs(planned, numbers, at_once), at_once, say, lambda _: None)
    except ValueError as error:
        raise (_bad_images(bad) or error) from error


def close_split(planned: PlannedSet) -> Artifact:
    """Join what every shard has left into the lists of the set, and give the set its name."""
    job = planned.job
    if not (job.directory / COUNTS).exists():
        write_synced(job.directory / JOB, job.model_dump_json(indent=2) + "\n")
        _run("close", job, planned.name)
    checksums = json.loads((job.work / CHECKSUMS).read_text())
    known = {name: FileEntry.model_validate(entry) for name, entry in checksums.items()}
    finished = publish(planned.path, planned.recipe, read_counts(job.directory), known)
    shutil.rmtree(job.work)
    return finished


def list_members(archive: Path, workspace: Path) -> Path:
    """List what lies in an archive or a folder, or find the list: `members/<name>/<digest>`."""
    made_from = recipe({"archive": identity(archive)}, {}, "data_shards.datasets.members", "data_shards.datasets.archive")
    path = location(workspace / "members" / archive.name, made_from)
    step = Step(f"members of {archive.name}", path, made_from, "members", MembersJob(root=archive))
    return make([step])[0].path / MEMBERS


@task(task_run_name="MD5 of archives")
def check_md5(archives: Path, md5: Path, workspace: Path) -> list[Artifact]:
    """Hold the files of a folder against a list as md5sum writes it, each once: `checksums/<name>/<digest>`.

    Raises:
        ValueError: a file differs, none is named in the list, or it is no such list.
    """
    known = read_md5(md5)
    named = [path for path in sorted(archives.expanduser().absolute().iterdir()) if path.name in known]
    if not named:
        raise ValueError(f"{md5} names no file of {archives}; it speaks of {', '.join(sorted(known))}")
    steps = []
    for path in named:
        job = ChecksumJob(archive=path, md5=known[path.name])
        made_from = recipe({"archive": identity(path)}, {"md5": job.md5})
        place = location(workspace / "checksums" / path.name, made_from)
        steps.append(Step(f"MD5 of {path.name}", place, made_from, "checksum", job))
    return make(steps)


def read_md5(path: Path) -> dict[str, str]:
    """Return the MD5 of each file name in a list as md5sum writes it.

    Raises:
        ValueError: it cannot be read or is no such list.
    """
    try:
        pairs = [line.split(maxsplit=1) for line in path.expanduser().read_text("utf-8").splitlines() if line.strip()]
        known = {Path(name.strip().lstrip("*")).name: digest.lower() for digest, name in pairs}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a list of MD5s ({error}); expected lines as md5sum writes them") from error
    if not known or not all(re.fullmatch("[0-9a-f]{32}", digest) for digest in known.values()):
        raise ValueError(f"{path} is no list of MD5s; expected lines as md5sum writes them: 32 digits, two blanks, a file name")
    return known


@task(task_run_name="colours of {shards.path.parent.parent.name}")
def measure_colours(shards: Artifact, workspace: Path) -> Artifact:
    """Measure the colours of a training set, or find them: `colours/<digest>`."""
    made_from = recipe({"shards": shards.digest}, {}, "data_shards.colours", "data_shards.images")
    job = ColoursJob(shards=shards.path, num_threads=processors())
    path = location(workspace / "colours", made_from)
    return make([Step(f"colours of {dataset_name(shards)}", path, made_from, "colours", job)])[0]


def dataset_name(shards: Artifact) -> str:
    """Return the dataset of a set of shards, as its place in the workspace says: `shards/<dataset>/<split>/<digest>`."""
    return shards.path.parent.parent.name


def _accept(found: Artifact, config: ShardConfig) -> Artifact:
    """A finished set, unless it leaves out images where that is an error."""
    num_bad = found.counts["bad_images"]
    if num_bad and config.bad_images == "error":
        raise ValueError(
            f"{found.path} leaves out {num_bad:,} images that cannot be decoded, listed in its bad_images.parquet; "
            f"mend them in the source, or set bad_images to report to accept this"
        )
    return found


def _run(worker: str, job: SetJob, name: str) -> None:
    """Have one worker do its part of a set."""
    log, path = run_log(), job.work / f"{worker}.json"
    write_synced(path, job.model_dump_json(indent=2) + "\n")
    launch([Job(worker, path, name)], 1, lambda name, line: log.info("%s: %s", name, line), lambda _: None)


def _shard_jobs(planned: PlannedSet, numbers: range, num_processes: int) -> list[Job]:
    """One job a process, each with shards from all over the range."""
    jobs = []
    for first in range(min(num_processes, len(numbers))):
        own = numbers[first::num_processes]
        job = ShardJob(**dict(planned.job), start=own.start, stop=own.stop, step=own.step)
        path = planned.job.work / f"shards-{own.start}-{own.step}.json"
        write_synced(path, job.model_dump_json(indent=2) + "\n")
        jobs.append(Job("shard", path, planned.name))
    return jobs


def _bad_images(directory: Path) -> ValueError | None:
    """What all processes found that cannot be decoded, as one error."""
    found = [BadImage(*fields) for path in sorted(directory.glob("*.json")) for fields in json.loads(path.read_text())]
    if not found:
        return None
    named = [f"  {bad}" for bad in found[:MAX_BAD_NAMED]]
    if len(found) > MAX_BAD_NAMED:
        named.append(f"  and {len(found) - MAX_BAD_NAMED:,} more, in {directory}")
    advice = "mend or remove them, or set bad_images to report to leave such images out and list them"
    return ValueError("\n".join([f"{len(found):,} images cannot be decoded, of those looked at so far:", *named, advice]))
