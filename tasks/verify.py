"""Finished sets of shards, read again: what is wrong with each, and which images they hold more than once."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from prefect import task
from pydantic import BaseModel, ConfigDict

from base.errors import InputError
from tasks.artifacts import MANIFEST, Manifest, fault_of, read_manifest
from tasks.compute import processors
from tasks.job import Artifact
from tasks.jobs.duplicates import DuplicatesJob
from tasks.jobs.verify import FAULTS, VerifyJob
from tasks.make import make
from tasks.workspace import Workspace


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
        return "\n".join([f"{head}: {'intact' if not self.faults else 'DAMAGED'}", *(f"  {fault}" for fault in self.faults)])


def name_of(shards: Path) -> str:
    """Return the name of a set: `ilsvrc2012 train`, from its place `shards/<dataset>/<split>/<key>`."""
    return f"{shards.parent.parent.name} {shards.parent.name}"


def find_sets(workspace: Workspace) -> list[Path]:
    """Return all finished sets of a workspace, the oldest first."""
    found = [manifest.parent for manifest in (workspace.path / "shards").glob(f"*/*/*/{MANIFEST}")]
    finished = [path for path in found if not path.name.endswith(".partial")]
    return sorted(finished, key=lambda path: read_manifest(path).created_at)


@task(task_run_name="verify {shards.parent.parent.name} {shards.parent.name}")
def verify_set(shards: Path, decode: bool, num_workers: int | None, workspace: Workspace) -> SetReport:
    """Read every file of a set and compare it with the manifest, the index and the lists.

    Raises:
        InputError: not a set of shards.
    """
    manifest = read_manifest(shards)
    if not any(name.endswith(".tar") for name in manifest.files) or "samples.parquet" not in manifest.files:
        raise InputError(f"{shards} is an artefact but not a set of shards; give the path of one, below shards/")
    faults = _faults_of_lists(shards, manifest)
    if faults:
        faults.append("its shards were not read: restore the lists first, or delete the set to make it again")
    else:
        faults = _faults_of_shards(shards, decode, num_workers or processors(), workspace)
    return SetReport(name=name_of(shards), path=shards, counts=manifest.counts, faults=faults)


@task(task_run_name="look for duplicates")
def find_duplicates(sets: Mapping[str, Path], workspace: Workspace) -> Artifact:
    """Look for equal images within sets and between them: `duplicates/<key>`."""
    return make([DuplicatesJob(sets={name: _artifact(path) for name, path in sets.items()})], workspace)[0]


def _faults_of_lists(shards: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files that are neither tars nor indexes, and with what the folder holds."""
    lists = {name: entry for name, entry in manifest.files.items() if not name.endswith((".tar", ".idx"))}
    faults = [fault for name, entry in lists.items() if (fault := fault_of(shards / name, entry))]
    strangers = {str(file.relative_to(shards)) for file in shards.rglob("*")} - {*manifest.files, MANIFEST}
    faults += [f"{shards / name} is not in the manifest" for name in sorted(strangers)]
    if not faults and (listed := pq.read_metadata(shards / "samples.parquet").num_rows) != manifest.counts["images"]:
        faults.append(f"samples.parquet lists {listed:,} images, the manifest says {manifest.counts['images']:,}")
    return faults


def _faults_of_shards(shards: Path, decode: bool, num_workers: int, workspace: Workspace) -> list[str]:
    dataset, split = name_of(shards).split(" ")
    job = VerifyJob(shards=_artifact(shards), dataset=dataset, split=split, decode=decode, at=datetime.now(UTC))
    made = make([job], workspace, processes=num_workers)[0]
    faults: list[str] = json.loads((made.path / FAULTS).read_bytes())
    return faults


def _artifact(path: Path) -> Artifact:
    manifest = read_manifest(path)
    return Artifact(path=path, digest=manifest.digest, counts=manifest.counts)
