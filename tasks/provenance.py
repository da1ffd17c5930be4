"""What is known about how a weights file was trained, from the manifest and the job beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from base.errors import InputError
from model.evaluation.rows import join_recipes
from tasks.artifacts import MANIFEST, read_manifest
from tasks.job import JOB, Weights, digest_of
from tasks.jobs.train import WEIGHTS, TrainJob


class Trained(NamedTuple):
    """How a weights file was made; nothing but None if it is not that of a run."""

    recipe: str | None = None
    """The name of the training recipe."""
    seed: int | None = None
    code_version: str | None = None
    """The git commit that trained it."""
    settings: dict[str, Any] | None = None
    """Everything that shaped it: the settings of the training and of its shards, and those of the weights it started from."""


def provenance_of(members: Sequence[Weights], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that follow from its members: recipe, seed, config and weights_code_versions.

    `settings` are those of the images and of the measurement; they go into `config` with those of each member's training.
    """
    trained = [how_trained(weights) for weights in members]
    shaped = [
        {"weights": member.digest} if one.settings is None else one.settings
        for one, member in zip(trained, members, strict=True)
    ]
    return {
        "recipe": join_recipes([one.recipe for one in trained]),
        "seed": trained[0].seed,
        "config": digest_of({**settings, "members": shaped}),
        "weights_code_versions": tuple(one.code_version for one in trained),
    }


def how_trained(weights: Weights) -> Trained:
    """Return what the run that holds a weights file says about it."""
    folder = weights.path.parent
    try:
        manifest = read_manifest(folder)
    except InputError:  # weights from anywhere
        return Trained()
    if WEIGHTS not in manifest.files or manifest.files[WEIGHTS].sha256 != weights.digest:
        return Trained()
    job = job_of(folder)
    images = None if job is None else _with_content(job.train.path, job.train.digest)
    settings = {
        "training": manifest.settings,
        "images": None if images is None else read_manifest(images).settings,
        "initial": manifest.inputs.get("initial") if job is None or job.initial is None else _settings_of(job.initial),
    }
    seed = manifest.settings.get("training", {}).get("seed")
    return Trained(None if job is None else job.recipe or None, seed, manifest.code_version, settings)


def _settings_of(initial: Weights) -> dict[str, Any] | None:
    folder = _with_content(initial.path.parent, initial.digest)
    return None if folder is None else how_trained(Weights(path=folder / initial.path.name, digest=initial.digest)).settings


def _with_content(folder: Path, digest: str) -> Path | None:
    """The folder of an artefact; if it was collected, the one beside it that has the same content."""
    if folder.exists():
        return folder
    for beside in (path.parent for path in folder.parent.glob(f"*/{MANIFEST}") if not path.parent.name.endswith(".partial")):
        manifest = read_manifest(beside)
        if digest == manifest.digest or (WEIGHTS in manifest.files and digest == manifest.files[WEIGHTS].sha256):
            return beside
    return None


def job_of(folder: Path) -> TrainJob | None:
    """Return the job of a run; None if there is none, or if an older version wrote it."""
    try:
        return TrainJob.model_validate_json((folder / JOB).read_bytes())
    except (OSError, ValidationError):
        return None
