"""Finished numbers to a page and figures: `python -m tasks.workers.report JOB.json`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from base.progress import Progress
from data_shards.shard_set import ShardSet
from model.network.weights import load_weights
from model.reporting.kernels import draw_kernels
from model.reporting.neighbours import draw_strips, make_strips
from model.reporting.page import Report, write_page
from model.reporting.panels import choose_images, draw_panels, make_panels
from model.reporting.tables import report_tables
from tasks.job import Artifact, Share
from tasks.jobs.predict import PREDICTIONS
from tasks.jobs.report import ReportJob
from tasks.jobs.retrieve import NEIGHBOURS
from tasks.jobs.train import METRICS
from tasks.workers.entry import Counts, run_worker
from tasks.workers.pictures import picture_of

NUM_STRIPS = 5
"""[K12 figure 4] Queries in the figure; the page has all of them."""
SHOWN = {"features l2": 0, "pixels l2": 1, "features autoencoder": 2}
"""Space and method of the neighbours on the page, and their order. Of codes, those of the fewest bits and the first seed."""
ANSWERS = ["image_id", "wnid", "rank", "top5_wnid", "top5_prob"]
"""The columns of the predictions that are shown."""


def main(job: ReportJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Write the figures, then the page."""
    del share
    queries = ShardSet.open(job.query_shards.path)
    names = dict(zip(queries.classes["wnid"], queries.classes["words"], strict=True))
    predictions = pd.read_parquet(job.predictions.path / PREDICTIONS, columns=ANSWERS)
    picture = picture_of(queries)
    chosen = job.images or choose_images(predictions["image_id"], seed=job.seed)
    panels = make_panels(predictions, {key: picture(key) for key in chosen}) if queries.labelled else []
    tables = report_tables(job.tables_dir, [weights.digest for weights in job.weights], job.table, job.others)
    kernels = {name: _kernels(weights.path) for name, weights in zip(job.names, job.weights, strict=True)}
    neighbours = _neighbours(job.retrieved, job.seed)
    database = None if job.database_shards is None else picture_of(ShardSet.open(job.database_shards.path))
    for suffix in ("png", "pdf"):
        draw_kernels(kernels[job.names[0]], directory / f"figure3.{suffix}")
        if panels:
            draw_panels(panels, names, directory / f"figure4-left.{suffix}")
        if not neighbours.empty and database is not None:
            draw_strips(_strips(neighbours, job.seed, picture, database), directory / f"figure4-right.{suffix}")
    curves = {name: pd.read_parquet(run.path / METRICS) for name, run in job.runs.items()}
    report = Report(
        name=job.name,
        names=names,
        curves=curves,
        kernels=kernels,
        panels=panels,
        neighbours=neighbours,
        predictions=predictions,
        query_picture=picture,
        database_picture=database,
        **tables,
    )
    write_page(report, directory, progress)
    return {
        "networks": len(kernels),
        "panels": len(panels),
        "queries": neighbours["query_id"].nunique() if len(neighbours) else 0,
    }


def _kernels(path: Path) -> tuple[Any, Any]:
    network, _ = load_weights(path)
    state = network.state_dict()
    return state["conv1.a.weight"].numpy(), state["conv1.b.weight"].numpy()


def _neighbours(retrieved: Artifact | None, seed: int) -> pd.DataFrame:
    """The neighbours to show, the queries in an order that the seed draws from their keys."""
    if retrieved is None:
        return pd.DataFrame()
    rows = pd.read_parquet(retrieved.path / NEIGHBOURS)
    rows = rows.assign(kind=(rows["space"] + " " + rows["method"]).map(SHOWN)).dropna(subset="kind")
    for column in ("bits", "code_seed"):
        rows = rows[rows[column].isna() | (rows[column] == rows[column].min())]
    order = choose_images(rows["query_id"].unique(), rows["query_id"].nunique(), seed)
    place = {key: number for number, key in enumerate(order)}
    rows = rows.assign(query=rows["query_id"].map(place)).sort_values(["query", "kind", "rank"])
    return rows.drop(columns=["query", "kind"]).reset_index(drop=True)


def _strips(neighbours: pd.DataFrame, seed: int, query: Callable[[str], bytes], database: Callable[[str], bytes]) -> list[Any]:
    chosen = choose_images(neighbours["query_id"].unique(), NUM_STRIPS, seed)
    by_features = (neighbours["space"] == "features") & (neighbours["method"] == "l2")
    return make_strips(neighbours[by_features & neighbours["query_id"].isin(chosen)], query, database)


if __name__ == "__main__":
    run_worker(ReportJob, main)
