"""Artefacts are the cache: a folder that is complete or not there, found again by what it was made from.

Used by every task; knows nothing of Prefect. A folder's name ends in the digest of its recipe: inputs, configuration and code.
It is filled under a `.partial` name, its manifest is written last, and then it is renamed.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

ROOT = Path(__file__).parent.parent
MANIFEST = "manifest.json"
JOB = "job.json"
COUNTS = "counts.json"
ABOUT = (JOB, COUNTS, "metrics.parquet", "curves.png", "events")
"""Files and folders that tell how an artefact was made and are no part of the result: paths, times."""


class Recipe(BaseModel):
    """What an artefact is made from. Equal recipes make equal artefacts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: dict[str, Any]
    """Digests of the artefacts read, or the identity of the source."""
    config: dict[str, Any]
    code: str
    """Digest of the sources that do the work."""

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe's canonical JSON."""
        return sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class FileEntry(BaseModel):
    """One file of an artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a finished artefact holds and how it came about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    digest: str
    """Of the names and bytes of the files that are the result, not of those that tell how it was made."""
    files: dict[str, FileEntry]
    counts: dict[str, int]
    code_version: str
    created_at: datetime


class Artifact(BaseModel):
    """The record of an artefact that tasks hand to each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    digest: str
    counts: dict[str, int]

    def __str__(self) -> str:
        return f"{self.path}  " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items())


def recipe(inputs: dict[str, Any], config: BaseModel | dict[str, Any], *packages: str) -> Recipe:
    """Return the recipe for work done by the sources of `packages`, such as `data_shards` or `model.network`."""
    values = config.model_dump(mode="json") if isinstance(config, BaseModel) else config
    return Recipe(inputs=inputs, config=values, code=code_digest(*packages))


def location(parent: Path, recipe: Recipe) -> Path:
    """Return where the artefact of this recipe lies, made or not."""
    return parent / recipe.digest[:12]


def find(path: Path, sizes_only: bool = False) -> Artifact | None:
    """Return the finished artefact at `path` after verifying its files, None where there is none.

    Raises:
        ValueError: a file was changed, cut short or removed since it was written.
    """
    if not path.exists():
        return None
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        if fault := fault_of(path / name, entry, sizes_only):
            raise ValueError(f"{fault}; delete {path} to make it again")
    return Artifact(path=path, digest=manifest.digest, counts=manifest.counts)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of the artefact at `path`.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError) as error:
        raise ValueError(
            f"{path} has no readable {MANIFEST}; it is not a finished artefact: delete it to make it again"
        ) from error


def begin(path: Path, keep: bool = False) -> Path:
    """Return an empty folder in which to make the artefact at `path`; with `keep`, what a killed run left is still there."""
    partial = path.with_name(path.name + ".partial")
    if partial.exists() and not keep:
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    (partial / MANIFEST).unlink(missing_ok=True)  # of a run that was killed just before the renaming
    return partial


def publish(
    path: Path, recipe: Recipe, counts: dict[str, int], known: Mapping[str, FileEntry] = MappingProxyType({})
) -> Artifact:
    """Give the folder filled since `begin` its manifest and its name.

    What is `known` of large files, from when they were written and flushed, is not read again.

    Raises:
        FileNotFoundError: one of those is no longer there.
    """
    partial = path.with_name(path.name + ".partial")
    names = sorted(str(file.relative_to(partial)) for file in partial.rglob("*") if file.is_file())
    if lost := sorted(known.keys() - set(names)):
        raise FileNotFoundError(
            f"{partial} lacks {len(lost):,} files that were written, such as {lost[0]}; delete {partial} and run again"
        )
    files = {name: known.get(name) or _entry(partial / name) for name in names}
    content = "".join(f"{name} {entry.sha256}\n" for name, entry in files.items() if Path(name).parts[0] not in ABOUT)
    manifest = Manifest(
        recipe=recipe,
        digest=sha256(content.encode()).hexdigest(),
        files=files,
        counts=counts,
        code_version=code_version(),
        created_at=datetime.now(UTC),
    )
    write_synced(partial / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    _sync(partial)
    partial.rename(path)
    _sync(path.parent)
    return Artifact(path=path, digest=manifest.digest, counts=counts)


def write_synced(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    _sync(partial)
    partial.rename(path)


@cache
def code_digest(*packages: str) -> str:
    """Return the SHA-256 of all Python and data files of these packages."""
    digest = sha256()
    for package in packages:
        folder = ROOT.joinpath(*package.split("."))
        files = sorted(file for suffix in ("*.py", "*.csv") for file in folder.rglob(suffix))
        for file in files or [folder.with_suffix(".py")]:
            digest.update(f"{file.relative_to(ROOT)} ".encode() + sha256(file.read_bytes()).digest())
    return digest.hexdigest()


@cache
def code_version() -> str:
    """Return the git commit, `-dirty` where the tree differs from it, `unknown` outside a checkout."""
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _entry(path: Path) -> FileEntry:
    _sync(path)
    with open(path, "rb") as file:
        return FileEntry(size=path.stat().st_size, sha256=file_digest(file, "sha256").hexdigest())


def fault_of(path: Path, entry: FileEntry, sizes_only: bool = False) -> str | None:
    """Return in what way a file is not what its manifest says, None where it is."""
    size = path.stat().st_size if path.is_file() else None
    if size is None or size != entry.size:
        found = "is missing" if size is None else f"holds {size:,} bytes"
        return f"{path} {found}, its manifest says {entry.size:,} bytes"
    if sizes_only:
        return None
    with open(path, "rb") as file:
        intact = file_digest(file, "sha256").hexdigest() == entry.sha256
    return None if intact else f"{path} was changed after it was written"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
