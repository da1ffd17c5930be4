"""A job: what a worker is told. The key of its artefact, its folder and its processes follow from its fields alone.

Imported by every job module in `tasks.jobs` and by the workers; needs nothing but pydantic.

The type of a field says what it is. An *input* (a subclass of `Input`) is what the job reads; a *resource* (`Resource[...]`) is
a path, a name or a number of processes and does not change the result; everything else is a *setting* and does.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

T = TypeVar("T")
_RESOURCE = object()
Resource = Annotated[T, _RESOURCE]
"""Marks a field that does not change the result."""

JOB = "job.json"
COUNTS = "counts.json"
CHECKSUMS = "checksums.json"
"""In the scratch space: size and SHA-256 of large files, from when they were written."""
WORK = "work"
"""Scratch space of a job, deleted when its artefact is published: plans, checkpoints, parts."""


class Input(BaseModel, ABC):
    """Something that a job reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @property
    @abstractmethod
    def identity(self) -> Any:
        """What distinguishes this input from another, as JSON."""


class Artifact(Input):
    """A finished artefact of the workspace."""

    path: Path
    digest: str
    """SHA-256 of its content."""
    counts: dict[str, int] = {}

    @property
    def identity(self) -> str:
        """The digest of the content, wherever it is stored."""
        return self.digest

    def __str__(self) -> str:
        return f"{self.path}  " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts.items())


class Weights(Input):
    """A weights file, from a run of this workspace or from anywhere."""

    path: Path
    digest: str
    """SHA-256 of the file."""

    @property
    def identity(self) -> str:
        """The digest of the file."""
        return self.digest

    def __str__(self) -> str:
        return f"{self.path}  sha256 {self.digest[:12]}"


class External(Input):
    """Images or an archive that this project did not make, identified without reading all of it."""

    values: dict[str, Any]
    """Names, sizes and times of change; for images that are drawn, everything they depend on."""

    @property
    def identity(self) -> dict[str, Any]:
        """The values."""
        return self.values


class Share(NamedTuple):
    """Which part of the units of a job one of several processes does."""

    number: int = 0
    total: int = 1

    def of(self, units: Sequence[T]) -> Sequence[T]:
        """Return every `total`-th unit from `number` on, so that each process works all over the range."""
        return units[self.number :: self.total]


class Job(BaseModel, ABC):
    """Work that makes one artefact."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stages: ClassVar[tuple[str, ...]]
    """Modules in `tasks.workers` that do the work, one after another."""
    shared_stage: ClassVar[str | None] = None
    """The stage that several processes can share; each does the units of its `Share`."""
    together: ClassVar[bool] = False
    """Whether one process takes several jobs at once."""
    spreads: ClassVar[bool] = True
    """Whether a worker of a cluster can do its work: it writes each file whole, so that a second one may write the same."""
    resumable: ClassVar[bool] = False
    """Whether a worker continues with what a killed run left."""
    large: ClassVar[bool] = False
    """Whether only the sizes of the files of a found artefact are checked, because reading all of it takes minutes."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions can change the last bits: recorded in the manifest, not part of the key."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What the log calls the job."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder in the workspace that holds the artefacts of this kind."""

    def num_units(self, directory: Path) -> int:
        """Return into how many units the shared stage can be divided, once the stages before it are done; 0 to skip it."""
        del directory
        return 1

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose import closure is the code of the job."""
        return tuple(f"tasks.workers.{stage}" for stage in self.stages)

    @property
    def inputs(self) -> dict[str, Any]:
        """The identity of every input."""
        found = {name: _identity(value) for name, value in self}
        return {name: identity for name, identity in found.items() if identity is not None}

    @property
    def settings(self) -> dict[str, Any]:
        """Every field that is neither an input nor a resource, and every computed field, as JSON; None is left out."""
        fields = type(self).model_fields
        resources = {name for name, field in fields.items() if _RESOURCE in field.metadata}
        values = self.model_dump(mode="json", exclude=resources | self.inputs.keys())
        return {name: value for name, value in values.items() if value is not None}


class Key(NamedTuple):
    """What an artefact is made from. Equal keys make equal artefacts."""

    inputs: dict[str, Any]
    settings: dict[str, Any]
    code: str
    """Digest of the sources that do the work."""

    @property
    def digest(self) -> str:
        """SHA-256 of the key's canonical JSON."""
        return digest_of(self._asdict())


def digest_of(values: Any) -> str:
    """Return the SHA-256 of the canonical JSON of plain values."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def to_job_file(job: Job) -> bytes:
    """Return what `job.json` holds: every field, no computed one."""
    values = job.model_dump(mode="json", exclude_computed_fields=True)
    return to_json(values, indent=2) + b"\n"


def _identity(value: Any) -> Any:
    """The identity of an input, or of several; None for anything else."""
    if isinstance(value, Input):
        return value.identity
    if isinstance(value, Mapping) and value and all(isinstance(entry, Input) for entry in value.values()):
        return {name: entry.identity for name, entry in value.items()}
    if isinstance(value, tuple | list) and value and all(isinstance(entry, Input) for entry in value):
        return [entry.identity for entry in value]
    return None
