"""Predictions to the tables: every row that is asked for, networks alone and averaged, beside the published numbers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.context import TaskRunContext
from pydantic import BaseModel, ConfigDict

from data_shards.datasets.dataset import Split
from data_shards.shard_set import ShardSet
from model.evaluation.answers import Answers
from model.evaluation.ensembles import Mix, average, check_same, search_weights
from model.evaluation.hierarchical import CostMatrix, by_class_index
from model.evaluation.intervals import is_at_chance
from model.evaluation.predictions import open_predictions
from model.evaluation.published import beside_published
from model.evaluation.rendering import as_cells, as_text, gains_as_text
from model.evaluation.rows import Evaluation, Measured, compared_rows
from model.evaluation.tables import NAMES, write_tables
from tasks.artifacts import read_manifest
from tasks.code import code_version
from tasks.job import Artifact, Weights
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
) -> TableRecord:
    """Add the rows of an evaluation to `tables/error_rates.parquet` and to the tables that depend on it.

    If the scored `shards` hold a cost matrix, as those of ILSVRC-2010 do, the rows have a hierarchical cost.
    """
    measured = _measure(plans, predictions, networks, read_manifest(shards.path).settings)
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
    rows = write_tables(measured, evaluation, workspace.tables, _cost_matrix(shards))
    _warn_of_chance(measured)
    shown = beside_published(rows)
    if TaskRunContext.get() is not None:
        description = f"{evaluation.dataset} {split}, {views} views"
        create_table_artifact(as_cells(shown), key="error-rates", description=description)
    gains = gains_as_text(compared_rows(measured, evaluation))
    paths = [workspace.tables / f"{name}.parquet" for name in NAMES]
    return TableRecord(paths=paths, text="\n\n".join(part for part in (as_text(shown), gains) if part))


@task(task_run_name="search ensemble weights")
def search_member_weights(predictions: Sequence[Artifact]) -> tuple[float, ...]:
    """Return the member weights with which the fewest images of these predictions are wrong at rank five."""
    found = search_weights([open_predictions(predictions_file(artifact)) for artifact in predictions])
    weights = ", ".join(f"{weight:.3f}" for weight in found.weights)
    run_log().info("member weights %s: %d top-5 errors on the images that chose them", weights, found.top5_wrong)
    return found.weights


def _measure(
    plans: Sequence[RowPlan], predictions: Sequence[Artifact], networks: Sequence[Weights], images: object
) -> list[Measured]:
    """Return the answers of every row's network or ensemble. Averages are made in one pass over the files."""
    members = [open_predictions(predictions_file(artifact)) for artifact in predictions]
    check_same(members)
    mixes = [Mix(plan.members, plan.member_weights) for plan in plans if len(plan.members) > 1]
    averaged = iter(average(members, mixes) if mixes else [])
    alone = {plan.members[0]: members[plan.members[0]].answers() for plan in plans if len(plan.members) == 1}
    return [
        _measured(
            plan,
            [networks[position] for position in plan.members],
            {"images": images, "predictions": read_manifest(predictions[plan.members[0]].path).settings},
            alone[plan.members[0]] if len(plan.members) == 1 else next(averaged),
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
