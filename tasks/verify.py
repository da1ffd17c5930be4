"""Finished sets of shards, read again: what is wrong with each, and which images they hold more than once."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
from prefect import task
from pydantic import BaseModel, ConfigDict

from tasks.artifacts import MANIFEST, Artifact, Manifest, fault_of, location, read_manifest, recipe, write_synced
from tasks.launch import Job, launch
from tasks.progress import Bar
from tasks.steps import Step, make, processors, run_log
from tasks.workers.jobs import DuplicatesJob, VerifyJob


class SetReport(BaseModel):
    """What reading a set again has shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: Path
    counts: dict[str, int]
    """What the manifest says."""
    faults: list[str]

    def __str__(self) -> str:
        head = f"{self.name}: {self.counts['images']:,} images in {self.counts['shards']:,} shards, {self.path}"
        return "\n".join([f"{head}: {'sound' if not self.faults else 'DAMAGED'}", *(f"  {fault}" for fault in self.faults)])


def name_of(shards: Path) -> str:
    """Return how people call a set: `ilsvrc2012 train`, from its place `shards/<dataset>/<split>/<digest>`."""
    return f"{shards.parent.parent.name} {shards.parent.name}"


def find_sets(workspace: Path) -> list[Path]:
    """Return all finished sets of a workspace, the oldest first."""
    found = [manifest.parent for manifest in (workspace / "shards").glob(f"*/*/*/{MANIFEST}")]
    finished = [path for path in found if not path.name.endswith(".partial")]
    return sorted(finished, key=lambda path: read_manifest(path).created_at)


@task(task_run_name="verify {shards.parent.parent.name} {shards.parent.name}")
def verify_set(shards: Path, decode: bool, num_workers: int | None, workspace: Path) -> SetReport:
    """Read every file of a set and hold it against the manifest, the index and the lists.

    Raises:
        ValueError: no set of shards.
    """
    manifest = read_manifest(shards)
    counts, tars = manifest.counts, sorted(name for name in manifest.files if name.endswith(".tar"))
    if not tars or "samples.parquet" not in manifest.files:
        raise ValueError(f"{shards} is an artefact but no set of shards; give the path of one, below shards/")
    faults = _faults_of_lists(shards, manifest)
    if faults:
        faults.append("its shards were not looked at: mend the lists first, or delete the set to make it again")
    else:
        faults = _faults_of_shards(shards, tars, counts["images"], decode, num_workers or processors(), workspace)
    return SetReport(name=name_of(shards), path=shards, counts=counts, faults=faults)


@task(task_run_name="look for duplicates")
def find_duplicates(sets: Mapping[str, Path], workspace: Path) -> Artifact:
    """Look for equal images within sets and between them, or find the list: `duplicates/<digest>`."""
    digests = {name: read_manifest(path).digest for name, path in sets.items()}
    made_from = recipe({"sets": digests}, {}, "data_shards.duplicates")
    job = DuplicatesJob(sets=dict(sets))
    return make([Step("duplicates", location(workspace / "duplicates", made_from), made_from, "duplicates", job)])[0]


def _faults_of_lists(shards: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files that are neither tars nor indexes, and with what the folder holds."""
    lists = {name: entry for name, entry in manifest.files.items() if not name.endswith((".tar", ".idx"))}
    faults = [fault for name, entry in lists.items() if (fault := fault_of(shards / name, entry))]
    strangers = {str(file.relative_to(shards)) for file in shards.rglob("*")} - {*manifest.files, MANIFEST}
    faults += [f"{shards / name} is not in the manifest" for name in sorted(strangers)]
    if not faults and (listed := pq.read_metadata(shards / "samples.parquet").num_rows) != manifest.counts["images"]:
        faults.append(f"samples.parquet lists {listed:,} images, the manifest says {manifest.counts['images']:,}")
    return faults


def _faults_of_shards(
    shards: Path, tars: list[str], num_images: int, decode: bool, num_workers: int, workspace: Path
) -> list[str]:
    log, faults = run_log(), list[str]()
    bar = Bar(name_of(shards), num_images, 0, log)

    def say(name: str, line: str) -> None:
        if line.startswith("+ "):
            images, num_bytes = map(int, line.split()[1:])
            bar.add(images, num_bytes)
        elif line.startswith("! "):
            faults.append(line.removeprefix("! "))
            log.warning("%s: %s", name, faults[-1])
        else:
            log.info("%s: %s", name, line)

    jobs = []
    for first in range(min(num_workers, len(tars))):
        path = workspace / "jobs" / f"verify-{first}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        job = VerifyJob(directory=shards, shards=tars[first::num_workers], decode=decode)
        write_synced(path, job.model_dump_json(indent=2) + "\n")
        jobs.append(Job("verify", path, name_of(shards)))
    launch(jobs, num_workers, say, lambda _: None)
    return sorted(faults)
