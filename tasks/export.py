"""Weights to a folder for others: the plain network, its classes, an ONNX file and a model card."""

import json
import shutil
from filecmp import cmp
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
from prefect import task
from pydantic import BaseModel, ConfigDict

from base.errors import InputError
from base.files import atomic_write, write_text
from model.evaluation.schemas import ERROR_RATES, upgrade
from model.export.about import sections
from model.export.parity import Parity
from model.reporting.card import card_rows, model_card
from tasks.artifacts import find, read_manifest
from tasks.job import COUNTS, JOB, Artifact, Weights
from tasks.jobs.export import PARITY, ExportJob
from tasks.make import make
from tasks.provenance import how_trained, job_of
from tasks.shard import dataset_name
from tasks.workspace import Workspace, check_writable

CARD = "README.md"
NOT_COPIED = {JOB, COUNTS, PARITY}
"""Files of the artefact that hold paths of this machine, or what the card says too."""


class ExportRecord(BaseModel):
    """A folder for others, and how close its copies are to the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    parity: dict[str, Parity]

    def __str__(self) -> str:
        lines = [
            f"{name}: the same five classes on {copy.same_top5:,} of {copy.num_images:,} images, probabilities within "
            f"{copy.largest_difference:.1e}"
            for name, copy in self.parity.items()
        ]
        return "\n".join([*lines, "", *(str(path) for path in sorted(self.folder.iterdir()))])


def check_onnx() -> None:
    """Check that what ONNX files need is installed.

    Raises:
        InputError: it is not.
    """
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise InputError(
            f"an ONNX file needs {', '.join(missing)}, which the base install lacks; install it with "
            f".venv/bin/pip install -r requirements-onnx.txt, or export without --onnx"
        )


def open_shards(shards: Path | None, weights: Weights) -> Artifact:
    """Return a finished set of shards; by default the validation images of the run that holds the weights.

    Raises:
        InputError: the run is unknown or its images are gone, or there is no such set.
    """
    if shards is None:
        job = job_of(weights.path.parent)
        if job is None or not job.val.path.exists():
            raise InputError(
                f"the validation images of {weights.path} were not found; give --shards, a finished set of its classes such as "
                f"WORKSPACE/shards/ilsvrc2012/val/0123456789ab"
            )
        shards = job.val.path
    path = shards.expanduser().absolute()
    return find(path, sizes_only=True) or Artifact(path=path, digest=read_manifest(path).digest)


@task(task_run_name="export {name}")
def export_network(name: str, weights: Weights, shards: Artifact, onnx: bool, to: Path, workspace: Workspace) -> ExportRecord:
    """Write the copies of a network, or find them: `exports/<weights>/<key>`. Copy them to `to`, with a card.

    Raises:
        InputError: `to` holds something else, or the classes of the weights are not those of the shards.
    """
    made = make([ExportJob(weights=weights, shards=shards, onnx=onnx)], workspace)[0]
    parity = {copy: Parity.model_validate(found) for copy, found in json.loads((made.path / PARITY).read_bytes()).items()}
    _copy(made, _card(name, weights, shards, made, parity, workspace), to.expanduser().absolute())
    return ExportRecord(folder=to.expanduser().absolute(), parity=parity)


def _card(
    name: str, weights: Weights, shards: Artifact, made: Artifact, parity: dict[str, Parity], workspace: Workspace
) -> str:
    path, trained, job = workspace.tables / "error_rates.parquet", how_trained(weights), job_of(weights.path.parent)
    rows = card_rows(upgrade(pq.read_table(path), ERROR_RATES), [weights.digest]) if path.exists() else []
    facts = {
        "images": None if job is None else f"{dataset_name(job.train)} train, {job.train.counts['images']:,}",
        "recipe": trained.recipe,
        "seed": trained.seed,
        "commit": trained.code_version,
        "SHA-256 of the weights": weights.digest,
    }
    config = json.loads((made.path / "config.json").read_bytes())
    images = f"{dataset_name(shards)} {shards.path.parent.name}"
    known = {fact: value for fact, value in facts.items() if value is not None}
    return model_card(name, rows, sections(config, parity, images, known))


def _copy(made: Artifact, card: str, to: Path) -> None:
    """Write the files of an artefact into a folder, and the card last. Files that are there already must be the same."""
    check_writable(to, "the folder", "another --to")
    files = [made.path / name for name in read_manifest(made.path).files if name not in NOT_COPIED]
    same = {path: (to / path.name).exists() and cmp(path, to / path.name, shallow=False) for path in files}
    others = [to / path.name for path in files if not same[path]] + [to / CARD] * (_text(to / CARD) != card)
    if found := [path for path in others if path.exists()]:
        raise InputError(f"{found[0]} is not what would be written there; move it away, or give another --to")
    for path in files:
        if not same[path]:
            with atomic_write(to / path.name) as file, open(path, "rb") as source:
                shutil.copyfileobj(source, file)
    write_text(to / CARD, card)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
