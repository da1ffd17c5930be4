"""Artefacts are the cache: a folder that is either complete or absent, found again by what it was made from.

Used by `tasks.make`; knows nothing of Prefect. A folder is filled under its `.partial` name, its manifest is written last, and
then it is renamed. Its name is the beginning of the digest of its key.
"""

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from base.errors import InputError
from base.files import sync, write_text
from tasks.code import code_digest, code_version
from tasks.job import COUNTS, JOB, WORK, Artifact, Job, Key

MANIFEST = "manifest.json"
KEY = "key.json"
"""In the scratch space of a job that can be resumed: what its artefact is made from."""
ABOUT = (JOB, COUNTS, "metrics.parquet", "curves.png", "events")
"""Files and folders that tell how an artefact was made and are not part of the result: paths, times."""


class FileEntry(BaseModel):
    """One file of an artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a finished artefact holds and how it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    inputs: dict[str, Any]
    """Digests of the artefacts that were read, identities of what came from outside."""
    settings: dict[str, Any]
    """Every setting that changes the result."""
    code: str
    """Digest of the sources that did the work."""
    code_version: str
    """The git commit."""
    libraries: dict[str, str] = {}
    """Versions that can change the last bits."""
    digest: str
    """Of the names and bytes of the files that are the result, without those that tell how it was made."""
    files: dict[str, FileEntry]
    counts: dict[str, int]
    created_at: datetime

    @property
    def key(self) -> Key:
        """What the artefact was made from."""
        return Key(self.inputs, self.settings, self.code)

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Older manifests have inputs, settings (`config`) and code together under `recipe`."""
        if isinstance(values, dict) and isinstance(values.get("recipe"), dict):
            older = values["recipe"]
            rest = {name: value for name, value in values.items() if name != "recipe"}
            return {**rest, "inputs": older["inputs"], "settings": older["config"], "code": older["code"]}
        return values


def key_of(job: Job) -> Key:
    """Return what the artefact of a job is made from."""
    return Key(job.inputs, job.settings, code_digest(job.modules))


def find(path: Path, sizes_only: bool = False) -> Artifact | None:
    """Return the finished artefact at `path` after checking its files, None if there is none.

    Raises:
        InputError: a file was changed, cut short or removed since it was written.
    """
    if not path.exists():
        return None
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        if fault := fault_of(path / name, entry, sizes_only):
            raise InputError(f"{fault}; delete {path} to make it again")
    return Artifact(path=path, digest=manifest.digest, counts=manifest.counts)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of the artefact at `path`.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError, KeyError) as error:
        raise InputError(
            f"{path} has no readable {MANIFEST}, so it is not a finished artefact; delete it to make it again"
        ) from error


def differing_in_code(folder: Path, key: Key) -> list[Path]:
    """Return the artefacts in `folder` made from the same inputs and settings by other code, the newest first."""
    manifests = {path: manifest for path, manifest in _manifests(folder) if manifest.key[:2] == key[:2]}
    other = [path for path, manifest in manifests.items() if manifest.code != key.code]
    return sorted(other, key=lambda path: manifests[path].created_at, reverse=True)


def begin(path: Path, keep: bool = False) -> Path:
    """Return the folder in which to make the artefact at `path`; with `keep`, what a killed run left is still in it."""
    partial = path.with_name(f"{path.name}.partial")
    if partial.exists() and not keep:
        shutil.rmtree(partial)
    (partial / WORK).mkdir(parents=True, exist_ok=True)
    (partial / MANIFEST).unlink(missing_ok=True)  # of a run that was killed just before the renaming
    return partial


def publish(
    path: Path,
    key: Key,
    counts: dict[str, int],
    known: Mapping[str, FileEntry] = MappingProxyType({}),
    libraries: Mapping[str, str] = MappingProxyType({}),
) -> Artifact:
    """Give the folder filled since `begin` its manifest and its name; its scratch space is deleted.

    Files that are `known`, from when they were written and flushed, are not read again.

    Raises:
        InputError: one of those is no longer there.
    """
    partial = path.with_name(f"{path.name}.partial")
    for file in partial.rglob("*.partial"):  # of a worker that was killed while it wrote one
        file.unlink(missing_ok=True)
    names = sorted(str(file.relative_to(partial)) for file in partial.rglob("*") if file.is_file())
    names = [name for name in names if Path(name).parts[0] != WORK]
    if lost := sorted(known.keys() - set(names)):
        raise InputError(
            f"{partial} lacks {len(lost):,} files that were written, such as {lost[0]}; delete {partial} and run again"
        )
    files = {name: known.get(name) or _entry(partial / name) for name in names}
    content = "".join(f"{name} {entry.sha256}\n" for name, entry in files.items() if Path(name).parts[0] not in ABOUT)
    manifest = Manifest(
        **key._asdict(),
        code_version=code_version(),
        libraries=dict(libraries),
        digest=sha256(content.encode()).hexdigest(),
        files=files,
        counts=counts,
        created_at=datetime.now(UTC),
    )
    write_text(partial / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    shutil.rmtree(partial / WORK, ignore_errors=True)
    sync(partial)
    partial.rename(path)
    sync(path.parent)
    return Artifact(path=path, digest=manifest.digest, counts=counts)


def fault_of(path: Path, entry: FileEntry, sizes_only: bool = False) -> str | None:
    """Return how a file differs from what its manifest says, None if it does not."""
    size = path.stat().st_size if path.is_file() else None
    if size is None or size != entry.size:
        found = "is missing" if size is None else f"holds {size:,} bytes"
        return f"{path} {found}, its manifest says {entry.size:,} bytes"
    if sizes_only:
        return None
    with open(path, "rb") as file:
        intact = file_digest(file, "sha256").hexdigest() == entry.sha256
    return None if intact else f"{path} was changed after it was written"


def _manifests(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """The finished artefacts in a folder."""
    for file in folder.glob(f"*/{MANIFEST}"):
        if not file.parent.name.endswith(".partial"):
            yield file.parent, read_manifest(file.parent)


def _entry(path: Path) -> FileEntry:
    sync(path)
    with open(path, "rb") as file:
        return FileEntry(size=path.stat().st_size, sha256=file_digest(file, "sha256").hexdigest())
