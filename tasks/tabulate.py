"""Predictions to the tables: every row asked for, networks alone and averaged, beside the published numbers."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.context import TaskRunContext
from pydantic import BaseModel, ConfigDict

from model.evaluation.ensembles import average
from model.evaluation.predictions import Predictions, read_predictions
from model.evaluation.rendering import as_cells, as_text
from model.evaluation.tables import SCHEMA, TABLES, Origin, Scored, error_rates, measured_row, select
from tasks.artifacts import Artifact, code_version
from tasks.predict import predictions_file
from tasks.train import Weights
from tasks.workers.jobs import Views


class RowPlan(BaseModel):
    """One row to be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    model: str
    members: tuple[int, ...]
    """Positions among the predictions."""


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
    plans: Sequence[RowPlan], predictions: Sequence[Artifact], networks: Sequence[Weights], scope: Scope, workspace: Path
) -> TableRecord:
    """Write `tables/error_rates.parquet` and its selections; rows of other evaluations in the workspace stay."""
    members = [read_predictions(predictions_file(artifact)) for artifact in predictions]
    rows = [_row(plan, members, networks, scope) for plan in plans]
    paths = _write(rows, workspace / "tables")
    shown = [*_published(rows), *rows]
    if TaskRunContext.get() is not None:
        create_table_artifact(
            as_cells(shown), key="error-rates", description=f"{scope.dataset} {scope.split}, {scope.views} views"
        )
    return TableRecord(paths=paths, text=as_text(shown))


def _row(plan: RowPlan, members: Sequence[Predictions], networks: Sequence[Weights], scope: Scope) -> dict[str, Any]:
    chosen = [members[position] for position in plan.members]
    predictions = chosen[0] if len(chosen) == 1 else average(chosen)
    digests = [networks[position].digest for position in plan.members]
    scored = Scored(plan.model, scope.dataset, scope.split, scope.views, digests, predictions)
    run = TaskRunContext.get()
    run_id = None if run is None else str(run.task_run.flow_run_id)
    return measured_row(
        plan.table, scored, Origin(scope.recipe, scope.shards, scope.config, code_version(), run_id, datetime.now(UTC))
    )


def _published(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The paper's own rows of the tables that these rows belong to."""
    tables = {row["table"] for row in rows}
    published = error_rates(None, []).to_pylist()
    return [row for row in published if row["table"] in tables and row["source"].startswith("K12")]


def _write(rows: Sequence[dict[str, Any]], directory: Path) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    main = directory / "error_rates.parquet"
    rates = error_rates(pq.read_table(main, schema=SCHEMA) if main.exists() else None, rows)
    tables = {main: rates} | {directory / f"{name}.parquet": select(rates, name) for name in TABLES}
    for path, table in tables.items():
        _replace(path, table)
    return list(tables)


def _replace(path: Path, table: pa.Table) -> None:
    """Write beside, flush, rename: a reader sees the old file or the new one."""
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        pq.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
