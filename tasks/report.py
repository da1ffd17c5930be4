"""Weights, predictions, neighbours and tables to one page in the browser."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.context import TaskRunContext

from base.files import write_text
from model.reporting.tables import digest, report_tables
from tasks.artifacts import MANIFEST, read_manifest
from tasks.job import Artifact, External, Weights
from tasks.jobs.report import PAGE, ReportJob
from tasks.make import make
from tasks.workspace import Workspace

POINTER = """<!doctype html>
<meta charset="utf-8">
<title>{name}</title>
<meta http-equiv="refresh" content="0; url={target}">
<a href="{target}">{name}</a>
"""


@task(task_run_name="report on {name}")
def write_report(
    name: str,
    networks: Mapping[str, Weights],
    table: str,
    query_shards: Artifact,
    database_shards: Artifact | None,
    predictions: Artifact,
    retrieved: Artifact | None,
    workspace: Workspace,
    images: tuple[str, ...] = (),
    others: Sequence[Weights] = (),
    summary: str = "",
) -> Path:
    """Write the report, or find it: `report/<name>/<key>/index.html`. Return `report/<name>.html`, which leads to it.

    The error rates are also those of `others`. `summary` is Markdown that Prefect shows above the link.
    """
    beside = tuple(weights.digest for weights in others)
    tables = report_tables(workspace.tables, [weights.digest for weights in networks.values()], table, beside)
    job = ReportJob(
        weights=tuple(networks.values()),
        runs={key: run for key, weights in networks.items() if (run := _run_of(weights)) is not None},
        names=tuple(networks),
        query_shards=query_shards,
        database_shards=database_shards,
        predictions=predictions,
        retrieved=retrieved,
        tables=External(values={"rows": digest(tables)}),
        table=table,
        images=images,
        name=name,
        tables_dir=workspace.tables,
        others=beside,
    )
    made = make([job], workspace)[0]
    pointer = workspace.path / "report" / f"{name}.html"
    write_text(pointer, POINTER.format(name=name, target=f"{name}/{made.path.name}/{PAGE}"))
    if TaskRunContext.get() is not None:
        counts = f"{made.counts['networks']} networks, {made.counts['queries']} queries"
        text = f"# Report on {name}\n\n{summary}\n\n{counts}: [{pointer}](file://{pointer})"
        create_markdown_artifact(text, key="report", description=f"Section 6 on {name}")
    return pointer


def _run_of(weights: Weights) -> Artifact | None:
    """The run that holds a weights file, if it has its metrics."""
    folder = weights.path.parent
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    return Artifact(path=folder, digest=manifest.digest) if "metrics.parquet" in manifest.files else None
