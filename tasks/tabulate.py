"""Predictions to the tables: every row asked for, networks alone and averaged, beside the published numbers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.context import TaskRunContext
from pydantic import BaseModel, ConfigDict

from data_shards.shard_set import ShardSet
from model.evaluation.answers import Answers
from model.evaluation.ensembles import Mix, average, check_same, search_weights
from model.evaluation.error_rates import is_at_chance
from model.evaluation.hierarchical import by_class_index
from model.evaluation.parquet import write_whole
from model.evaluation.predictions import open_predictions
from model.evaluation.rendering import Row, as_cells, as_latex, as_markdown, as_text, gains_as_text
from model.evaluation.tables import (
    COMPARISONS,
    GAPS,
    PER_CLASS,
    SCHEMA,
    TABLES,
    CostMatrix,
    Origin,
    Scored,
    append,
    compared_rows,
    error_rates,
    gaps,
    measured_row,
    per_class_rows,
    published_rows,
    select,
)
from tasks.artifacts import Artifact, code_version
from tasks.predict import predictions_file
from tasks.steps import run_log
from tasks.train import Weights
from tasks.workers.jobs import Views


class RowPlan(BaseModel):
    """One row to be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    table: str
    model: str
    members: tuple[int, ...]
    """Positions among the predictions."""
    member_weights: tuple[float, ...] | None = None
    """One a member, summing to one; equal ones where not given."""
    selected_on: str | None = None
    """The split on which the weights were chosen."""


class Scope(BaseModel):
    """What all rows of one evaluation share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    split: str
    views: Views
    shards: str
    """Digest of the shard set."""
    recipe: str
    config: str
    """Digest of the configuration."""


class TableRecord(BaseModel):
    """The tables that were written, and the rows of this evaluation as text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    paths: list[Path]
    text: str

    def __str__(self) -> str:
        return "\n".join((self.text, "", *map(str, self.paths)))


@task(task_run_name="tabulate {scope.dataset} {scope.split}")
def write_error_rates(
    plans: Sequence[RowPlan],
    predictions: Sequence[Artifact],
    networks: Sequence[Weights],
    scope: Scope,
    workspace: Path,
    shards: Artifact | None = None,
) -> TableRecord:
    """Add an evaluation's rows to `tables/error_rates.parquet` and what hangs on it; rows that are there stay.

    Where the scored `shards` keep a cost matrix, as those of ILSVRC-2010 do, the rows have a hierarchical cost.
    """
    scored = _score(plans, predictions, networks)
    rows = _write(scored, _origin(scope), _cost_matrix(shards), workspace / "tables")
    _warn_of_chance(scored)
    shown = [*_published(rows), *rows]
    if TaskRunContext.get() is not None:
        create_table_artifact(
            as_cells(shown), key="error-rates", description=f"{scope.dataset} {scope.split}, {scope.views} views"
        )
    directory = workspace / "tables"
    paths = [directory / f"{name}.parquet" for name in ("error_rates", *TABLES, "comparisons", "per_class", "gaps")]
    text = "\n\n".join(part for part in (as_text(shown), gains_as_text(compared_rows(scored, _origin(scope)))) if part)
    return TableRecord(paths=paths, text=text)


@task(task_run_name="search ensemble weights")
def search_member_weights(predictions: Sequence[Artifact]) -> tuple[float, ...]:
    """Return the ensemble weights with which the fewest images of these predictions are wrong at rank five."""
    found = search_weights([open_predictions(predictions_file(artifact)) for artifact in predictions])
    weights = ", ".join(f"{weight:.3f}" for weight in found.weights)
    run_log().info("ensemble weights %s: %d top-5 errors on the images that chose them", weights, found.top5_wrong)
    return found.weights


def _score(plans: Sequence[RowPlan], predictions: Sequence[Artifact], networks: Sequence[Weights]) -> list[Scored]:
    """What every row's network or ensemble says. Averages are made in one pass over the files; one alone is read as it is."""
    members = [open_predictions(predictions_file(artifact)) for artifact in predictions]
    check_same(members)
    mixes = [Mix(plan.members, plan.member_weights) for plan in plans if len(plan.members) > 1]
    averaged = iter(average(members, mixes) if mixes else [])
    alone = {plan.members[0]: members[plan.members[0]].answers() for plan in plans if len(plan.members) == 1}
    return [_scored(plan, networks, alone[plan.members[0]] if len(plan.members) == 1 else next(averaged)) for plan in plans]


def _scored(plan: RowPlan, networks: Sequence[Weights], answers: Answers) -> Scored:
    digests = tuple(networks[position].digest for position in plan.members)
    weights = plan.member_weights or (1 / len(digests),) * len(digests)
    return Scored(plan.table, plan.model, digests, weights, plan.selected_on, answers)


def _origin(scope: Scope) -> Origin:
    run = TaskRunContext.get()
    run_id = None if run is None else str(run.task_run.flow_run_id)
    return Origin(**scope.model_dump(), code_version=code_version(), run_id=run_id, created_at=datetime.now(UTC))


def _cost_matrix(shards: Artifact | None) -> CostMatrix | None:
    """The devkit's cost matrix in the order of the class index."""
    if shards is None or not (shards.path / "cost_matrix.npy").exists():
        return None
    ids = ShardSet.open(shards.path).classes["ilsvrc_id"]
    return by_class_index(np.load(shards.path / "cost_matrix.npy"), [int(number) for number in ids])


def _warn_of_chance(scored: Sequence[Scored]) -> None:
    for one in scored:
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


def _published(rows: Sequence[Row]) -> list[Row]:
    """The paper's own rows of the tables that these rows belong to."""
    tables = {row["table"] for row in rows}
    return [row for row in published_rows() if row["table"] in tables and row["source"].startswith("K12")]


def _write(scored: Sequence[Scored], origin: Origin, cost_matrix: CostMatrix | None, directory: Path) -> list[Row]:
    """Write every table; return the new rows of error rates."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [measured_row(one, origin, cost_matrix) for one in scored]
    rates = error_rates(_known(directory / "error_rates.parquet"), rows)
    comparisons = append(_known(directory / "comparisons.parquet"), compared_rows(scored, origin), COMPARISONS)
    per_class = append(_known(directory / "per_class.parquet"), per_class_rows(scored, origin), PER_CLASS)
    selections = {name: select(rates, name) for name in TABLES}
    for name, table, schema in (
        ("error_rates", rates, SCHEMA),
        *((name, table, SCHEMA) for name, table in selections.items()),
        ("comparisons", comparisons, COMPARISONS),
        ("per_class", per_class, PER_CLASS),
        ("gaps", gaps(rates), GAPS),
    ):
        write_whole(directory / f"{name}.parquet", [table], schema)
    for name, table in selections.items():
        (directory / f"{name}.md").write_text(as_markdown(table.to_pylist()) + "\n", encoding="utf-8")
        (directory / f"{name}.tex").write_text(as_latex(table.to_pylist()) + "\n", encoding="utf-8")
    return rows


def _known(path: Path) -> pa.Table | None:
    return pq.read_table(path) if path.exists() else None
