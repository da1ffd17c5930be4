"""Predictions to the tables: every row that is asked for, networks alone and averaged, beside the published numbers.

The same networks can be scored on other test sets and by other labels too; `shifts.parquet` compares these with the split.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.context import TaskRunContext
from pydantic import BaseModel, ConfigDict

from data_shards.datasets.dataset import Split
from data_shards.datasets.real_labels import read_real_labels
from data_shards.shard_set import ShardSet
from model.evaluation.answers import Answers
from model.evaluation.ensembles import Mix, average, check_same, search_weights
from model.evaluation.hierarchical import CostMatrix, by_class_index
from model.evaluation.intervals import is_at_chance
from model.evaluation.predictions import PredictionsFile, open_predictions
from model.evaluation.published import beside_published
from model.evaluation.rendering import as_cells, as_text, gains_as_text, shift_cells, shifts_as_text
from model.evaluation.rows import Evaluation, Measured, compared_rows
from model.evaluation.scopes import Scope, among, relabelled
from model.evaluation.shifts import shift_rows
from model.evaluation.tables import NAMES, write_shifts, write_tables
from tasks.artifacts import read_manifest
from tasks.code import code_version
from tasks.job import Artifact, Weights, digest_of
from tasks.jobs.predict import Views
from tasks.predict import predictions_file
from tasks.progress import run_log
from tasks.provenance import provenance_of
from tasks.shard import dataset_name
from tasks.workspace import Workspace


class RowPlan(BaseModel):
    """One row to be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    table: str
    model: str
    members: tuple[int, ...]
    """Positions among the predictions."""
    member_weights: tuple[float, ...] | None = None
    """One per member, summing to one; None for equal ones."""
    selected_on: str | None = None
    """The split on which the member weights were chosen."""


class TableRecord(BaseModel):
    """The tables that were written, and the rows of this evaluation as text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paths: list[Path]
    text: str

    def __str__(self) -> str:
        return "\n".join((self.text, "", *map(str, self.paths)))


class OtherSet(BaseModel):
    """A test set beside the scored split, with the predictions of the same networks; or other labels of the split itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    shards: Artifact
    split: Split
    predictions: tuple[Artifact, ...] = ()
    labels: Path | None = None
    """A file of ReaL labels, for the images of the split; None for another set."""
    numbered: tuple[str, ...] = ()
    """The WNIDs that these labels number."""

    def scored(self, predictions: Sequence[Artifact]) -> "OtherSet":
        """Return the set with the predictions of the networks."""
        return self.model_copy(update={"predictions": tuple(predictions)})


@task(task_run_name="tabulate {split}")
def write_error_rates(
    plans: Sequence[RowPlan],
    predictions: Sequence[Artifact],
    networks: Sequence[Weights],
    shards: Artifact,
    split: Split,
    views: Views,
    preset: str,
    workspace: Workspace,
    others: Sequence[OtherSet] = (),
) -> TableRecord:
    """Add the rows of an evaluation to `tables/error_rates.parquet` and to the tables that depend on it.

    If the scored `shards` hold a cost matrix, as those of ILSVRC-2010 do, the rows have a hierarchical cost. Each of `others`
    adds its own rows, and those of the split among its classes if it does not have all of them, and a shift for each row.
    """
    evaluation = Evaluation(
        dataset=dataset_name(shards),
        split=split,
        views=views,
        preset=preset,
        shards=shards.digest,
        code_version=code_version(),
        run_id=run_id(),
        created_at=datetime.now(UTC),
    )
    measured = _measure(plans, predictions, networks, {"images": read_manifest(shards.path).settings})
    scored = _Scored(measured, evaluation)
    besides = [_beside(scored, plans, predictions, networks, other) for other in others]
    rows = write_tables(*scored, workspace.tables, _cost_matrix(shards))
    shifts = []
    for val, other in besides:
        for one in (other,) if val is scored else (val, other):
            rows += write_tables(*one, workspace.tables)
        shifts += shift_rows(*val, *other)
    paths = [workspace.tables / f"{name}.parquet" for name in NAMES]
    if shifts:
        paths.append(write_shifts(shifts, workspace.tables))
    _warn_of_chance(measured)
    shown = beside_published(rows)
    texts = (as_text(shown), gains_as_text(compared_rows(*scored)), shifts_as_text(shifts))
    if TaskRunContext.get() is not None:
        description = f"{evaluation.dataset} {split}, {views} views"
        create_table_artifact(as_cells(shown), key="error-rates", description=description)
        if shifts:
            create_table_artifact(shift_cells(shifts), key="shifts", description=texts[-1])
    return TableRecord(paths=paths, text="\n\n".join(part for part in texts if part))


@task(task_run_name="search ensemble weights")
def search_member_weights(predictions: Sequence[Artifact]) -> tuple[float, ...]:
    """Return the member weights with which the fewest images of these predictions are wrong at rank five."""
    found = search_weights([open_predictions(predictions_file(artifact)) for artifact in predictions])
    weights = ", ".join(f"{weight:.3f}" for weight in found.weights)
    run_log().info("member weights %s: %d top-5 errors on the images that chose them", weights, found.top5_wrong)
    return found.weights


class _Scored(NamedTuple):
    """The measured rows of one evaluation."""

    measured: list[Measured]
    evaluation: Evaluation


def _beside(
    scored: _Scored, plans: Sequence[RowPlan], predictions: Sequence[Artifact], networks: Sequence[Weights], other: OtherSet
) -> tuple[_Scored, _Scored]:
    """Return the rows of the split that another set is compared with, and the other set's rows, among the same classes."""
    name, images = dataset_name(other.shards), read_manifest(other.shards.path).settings
    on = replace(scored.evaluation, dataset=name, split=other.split, shards=other.shards.digest)
    if other.labels is not None:
        labels, settings = read_labels(other), {"images": images, "labels": digest_of(other.labels.read_text())}
        measured = _measure(plans, other.predictions, networks, settings, partial(relabelled, labels=labels))
        return scored, _Scored(measured, replace(on, labels=other.labels.stem))
    shards = ShardSet.open(other.shards.path)
    classes = sorted(shards.samples["wnid"].unique())
    if len(classes) == len(shards.wnids):
        return scored, _Scored(_measure(plans, other.predictions, networks, {"images": images}), on)
    settings, only = {"images": images, "classes": digest_of(classes)}, partial(among, wnids=classes)
    val, test = (
        _Scored(_measure(plans, made, networks, settings, only), replace(evaluation, classes=name))
        for made, evaluation in ((predictions, scored.evaluation), (other.predictions, on))
    )
    return val, test


def read_labels(other: OtherSet) -> dict[str, list[str]]:
    """Return the right classes of each image by its key.

    Raises:
        InputError: the file does not fit the images.
    """
    if other.labels is None:
        raise ValueError("this set has its own labels")
    samples = ShardSet.open(other.shards.path).samples
    return dict(zip(samples["key"], read_real_labels(other.labels, list(samples["name"]), other.numbered), strict=True))


def _measure(
    plans: Sequence[RowPlan],
    predictions: Sequence[Artifact],
    networks: Sequence[Weights],
    settings: Mapping[str, Any],
    scope_of: Callable[[PredictionsFile], Scope] | None = None,
) -> list[Measured]:
    """Return the answers of every row's network or ensemble. Averages are made in one pass over the files.

    `settings` change the numbers beside those of the predictions. `scope_of` says which images count and how they are judged.
    """
    members = [open_predictions(predictions_file(artifact)) for artifact in predictions]
    first = check_same(members)
    scope = None if scope_of is None else scope_of(first)
    averages = [plan for plan in plans if len(plan.members) > 1 or scope is not None]
    mixes = [Mix(plan.members, plan.member_weights) for plan in averages]
    averaged = iter(average(members, mixes, scope) if mixes else [])
    return [
        _measured(
            plan,
            [networks[position] for position in plan.members],
            {**settings, "predictions": read_manifest(predictions[plan.members[0]].path).settings},
            next(averaged) if plan in averages else members[plan.members[0]].answers(),
        )
        for plan in plans
    ]


def _measured(plan: RowPlan, members: Sequence[Weights], settings: dict[str, object], answers: Answers) -> Measured:
    """A row with its provenance; `settings` are those of the images and of the predictions."""
    weights = plan.member_weights or (1 / len(members),) * len(members)
    return Measured(
        table=plan.table,
        model=plan.model,
        members=tuple(member.digest for member in members),
        member_weights=weights,
        selected_on=plan.selected_on,
        **provenance_of(members, {**settings, "member_weights": weights}),
        answers=answers,
    )


def run_id() -> str | None:
    """Return the id of the Prefect run, None outside of runs."""
    run = TaskRunContext.get()
    return None if run is None else str(run.task_run.flow_run_id)


def _cost_matrix(shards: Artifact) -> CostMatrix | None:
    """The devkit's cost matrix in the order of the class index."""
    if not (shards.path / "cost_matrix.npy").exists():
        return None
    ids = ShardSet.open(shards.path).classes["ilsvrc_id"]
    return by_class_index(np.load(shards.path / "cost_matrix.npy"), [int(number) for number in ids])


def _warn_of_chance(measured: Sequence[Measured]) -> None:
    for one in measured:
        counts = one.answers.count_errors()
        if counts is not None and is_at_chance(counts, len(one.answers.wnids)):
            run_log().warning(
                "%s is right on %s of %s images, no more than guessing among %s classes; are its classes in the right order, "
                "its inputs scaled as it expects?",
                one.model,
                f"{counts.num_images - counts.top1_wrong:,}",
                f"{counts.num_images:,}",
                f"{len(one.answers.wnids):,}",
            )
