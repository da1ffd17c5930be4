"""A dataset's split to a set of shards."""

import json
from collections.abc import Sequence
from pathlib import Path

from prefect import task

from base.errors import InputError
from data_shards.datasets.archive import copies_reported
from data_shards.datasets.dataset import Dataset, Source, Split
from data_shards.datasets.finding import identity
from data_shards.planning import ShardConfig
from data_shards.shard_format import BadImage
from tasks.compute import processors
from tasks.job import WORK, Artifact, External
from tasks.jobs.members import MEMBERS, MembersJob
from tasks.jobs.shard import BAD, ShardJob
from tasks.launch import Unit
from tasks.make import make, partial_of, place
from tasks.progress import Display, Shown, run_log
from tasks.workspace import Workspace

REPAIR = {False: "repair or remove the files", True: "fetch the archive again"}
"""What to do about images that are files, and about images in an archive, which cannot be repaired there."""

MAX_BAD_NAMED = 40


@task(task_run_name="shard {source.kind} {split}")
def shard_split(
    source: Source,
    split: Split,
    config: ShardConfig,
    workspace: Workspace,
    num_workers: int | None = None,
) -> Artifact:
    """Write one split as shards, or find them: `shards/<dataset>/<split>/<key>`.

    Raises:
        InputError: images that cannot be decoded, or another fault of the source; a damaged set, or one that leaves out images
            although that is an error.
    """
    with Display(run_log()) as display, copies_reported(Shown(display, Unit("copy", (), f"copy of {source.kind} {split}"))):
        dataset = source.open(workspace.sources)
        job = _job(dataset, source, split, config, workspace)
        archives = [] if place(job, workspace).exists() else dataset.archives(split)
    job = job.model_copy(update={"lists": _list_members(archives, workspace)})
    try:
        made = make([job], workspace, processes=num_workers or processors())[0]
    except InputError as error:
        raise (_bad_images(partial_of(job, workspace) / WORK / BAD) or error) from error
    return _accept(made, config)


def dataset_name(shards: Artifact) -> str:
    """Return the dataset of a set of shards, from its place in the workspace: `shards/<dataset>/<split>/<key>`."""
    return shards.path.parent.parent.name


def _job(dataset: Dataset, source: Source, split: Split, config: ShardConfig, workspace: Workspace) -> ShardJob:
    return ShardJob(
        **dict(config),
        dataset=External(values=dataset.identity(split)),
        source=source,
        dataset_name=dataset.name,
        split=split,
        unpack_dir=workspace.sources,
    )


def _list_members(archives: Sequence[Path], workspace: Workspace) -> dict[Path, Path]:
    """For each archive of a split, the list of its members."""
    jobs = [MembersJob(archive=External(values=identity(root)), root=root) for root in archives]
    return {root: made.path / MEMBERS for root, made in zip(archives, make(jobs, workspace), strict=True)}


def _accept(made: Artifact, config: ShardConfig) -> Artifact:
    """A finished set, unless it leaves out images although that is an error."""
    num_bad = made.counts["bad_images"]
    if num_bad and config.bad_images == "error":
        raise InputError(
            f"{made.path} leaves out {num_bad:,} images that cannot be decoded, listed in its bad_images.parquet; "
            f"repair their source, or set bad_images to report to accept this"
        )
    return made


def _bad_images(directory: Path) -> InputError | None:
    """What all processes found that cannot be decoded, as one error."""
    found = [BadImage(*fields) for path in sorted(directory.glob("*.json")) for fields in json.loads(path.read_text())]
    if not found:
        return None
    named = [f"  {bad}" for bad in found[:MAX_BAD_NAMED]]
    if len(found) > MAX_BAD_NAMED:
        named.append(f"  and {len(found) - MAX_BAD_NAMED:,} more, in {directory}")
    repair = " and ".join(REPAIR[inside] for inside in sorted({bad.source_offset is not None for bad in found}))
    advice = f"{repair}, or set bad_images to report to leave such images out and list them"
    return InputError("\n".join([f"{len(found):,} images cannot be decoded, of those read so far:", *named, advice]))
