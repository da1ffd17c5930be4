"""Vectors and codes to neighbours and scores: `python -m tasks.workers.retrieve JOB.json ...`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base.files import atomic_write
from base.progress import Progress
from model.retrieval.disjoint import check_disjoint
from model.retrieval.distances import Metric, reported, set_num_threads
from model.retrieval.encoding import codes_of
from model.retrieval.hamming import count_by_distance, nearest_codes, place_codes
from model.retrieval.places import Places, Targets, place_each, same_class, targets_of
from model.retrieval.rows import (
    NUM_NEIGHBOURS,
    AtPixelLevel,
    Ranking,
    at_pixel_level,
    neighbour_rows,
    pixel_columns,
    radius_columns,
    score_columns,
)
from model.retrieval.schemas import NEIGHBOURS as NEIGHBOUR_COLUMNS
from model.retrieval.schemas import RETRIEVAL as RETRIEVAL_COLUMNS
from model.retrieval.search import Neighbours, nearest
from model.retrieval.vectors import Values, Vectors, open_vectors
from tasks.job import Artifact, Share
from tasks.jobs.codes import CODES, DATABASE, QUERIES, CodeName
from tasks.jobs.retrieve import NEIGHBOURS, RETRIEVAL, RetrieveJob
from tasks.workers.entry import Counts, run_worker

Row = dict[str, Any]


class Search(NamedTuple):
    """Queries and a database, and what counts as right."""

    queries: Vectors
    database: Vectors
    of_class: Targets
    of_neighbours: Targets
    """The six nearest by features."""
    listed: NDArray[np.int64]
    """Which queries are listed with their neighbours."""


class Ranked(NamedTuple):
    """The neighbours by one distance, and the places of what counts as right."""

    found: Neighbours
    num_tied: NDArray[np.int64]
    """(Q, 6)"""
    of_class: Places
    of_neighbours: Places


def main(job: RetrieveJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Search and score by features, pixels and codes; write the rows of both tables."""
    del share
    set_num_threads(job.num_threads)
    check_disjoint(_digests(job.query_shards), _digests(job.database_shards))
    queries, database, codes = _open(job.queries), _open(job.database), _codes(job)
    search = Search(
        queries,
        database,
        same_class(queries.wnids.to_pylist(), database.wnids.to_pylist()),
        targets_of(nearest(queries.read(), database, NUM_NEIGHBOURS).rows),
        _listed(queries, job.num_queries),
    )
    neighbours, scores = [], []
    total = 2 + (job.query_pixels is not None) + len(codes)
    for row, more in _rankings(job, search, codes):
        scores.append(row)
        neighbours += more
        progress.report(len(scores), total, "rankings")
    _write(directory / NEIGHBOURS, neighbours, NEIGHBOUR_COLUMNS)
    _write(directory / RETRIEVAL, scores, RETRIEVAL_COLUMNS)
    return {"queries": len(search.queries), "database": len(search.database), "rankings": len(scores)}


def _listed(queries: Vectors, number: int | None) -> NDArray[np.int64]:
    """Every n-th query in the order of the keys, so that all classes have their share."""
    if number is None or number >= len(queries):
        return np.arange(len(queries))
    order = np.argsort(queries.key_order)
    return np.sort(order[np.linspace(0, len(queries) - 1, number).round().astype(np.int64)])


def _codes(job: RetrieveJob) -> list[tuple[str, Row, Path]]:
    """Return the space, the measures and the folder of every code."""
    made = [(space, codes.path) for space, codes in (("features", job.codes), ("pixels", job.pixel_codes)) if codes is not None]
    return [(space, measures, path) for space, path in made for measures in json.loads((path / CODES).read_bytes())]


def _rankings(job: RetrieveJob, search: Search, codes: list[tuple[str, Row, Path]]) -> Iterator[tuple[Row, list[Row]]]:
    """Yield for each space and method the row of scores and the rows of neighbours."""
    pixels = None
    if job.query_pixels is not None and job.database_pixels is not None:
        pixels = _rank(_open(job.query_pixels).read(), _open(job.database_pixels), search, "l2")
    level = None if pixels is None else at_pixel_level(pixels.of_neighbours)
    features = search.queries.read()
    yield _rows("features", "l2", search, _rank(features, search.database, search, "l2"), level)
    yield _rows("features", "cosine", search, _rank(features, search.database, search, "cosine"))
    if pixels is not None:
        yield _rows("pixels", "l2", search, pixels)
    for space, measures, path in codes:
        yield _by_codes(space, measures, search, path)


def _rank(queries: Values, database: Vectors, search: Search, metric: Metric) -> Ranked:
    found = nearest(queries, database, NUM_NEIGHBOURS, metric)
    own, of_class, of_neighbours = place_each(
        queries, database, (targets_of(found.rows), search.of_class, search.of_neighbours), metric
    )
    return Ranked(found, own.num_tied.reshape(found.rows.shape), of_class, of_neighbours)


def _rows(
    space: str, metric: Metric, search: Search, ranked: Ranked, pixels: AtPixelLevel | None = None
) -> tuple[Row, list[Row]]:
    """The row of scores and the rows of neighbours; `pixels` are the feature neighbours at the pixel level."""
    names = {"space": space, "method": metric}
    ranking = Ranking((search.of_class, ranked.of_class), (search.of_neighbours, ranked.of_neighbours))
    row: Row = {**names, **score_columns(ranking, len(search.database))}
    if pixels is not None:
        row |= pixel_columns(pixels)
    distances = reported(ranked.found.distances, metric)
    return row, _listed_rows(names, search, ranked.found, distances, ranked.num_tied, pixels)


def _by_codes(space: str, measures: Row, search: Search, codes: Path) -> tuple[Row, list[Row]]:
    folder = codes / str(CodeName(measures["method"], measures["bits"], measures["seed"]))
    queries, database = (open_vectors([folder / name]) for name in (QUERIES, DATABASE))
    ours, theirs = (codes_of(vectors) for vectors in (queries, database))
    found = nearest_codes(ours, theirs, database.key_order, NUM_NEIGHBOURS)
    ties = place_codes(ours, theirs, targets_of(found.rows)).num_tied.reshape(found.rows.shape)
    ranking = Ranking(*((targets, place_codes(ours, theirs, targets)) for targets in (search.of_class, search.of_neighbours)))
    names = {"space": space, "method": measures["method"], "bits": measures["bits"], "code_seed": measures["seed"]}
    row: Row = {
        **names,
        **score_columns(ranking, len(database)),
        **radius_columns(ranking, count_by_distance(ours, theirs)),
        **{name: measures[name] for name in ("dead_bits", "distinct_codes", "reconstruction_val")},
    }
    return row, _listed_rows(names, search, found, found.distances, ties, None)


def _listed_rows(
    names: Row,
    search: Search,
    found: Neighbours,
    distances: NDArray[np.float64],
    ties: NDArray[np.int64],
    pixels: AtPixelLevel | None,
) -> list[Row]:
    some = search.listed
    ids, wnids = (column.take(pa.array(some)).to_pylist() for column in (search.queries.keys, search.queries.wnids))
    chosen = None if pixels is None else AtPixelLevel(pixels.ranks[some], pixels.distances[some])
    neighbours = Neighbours(found.rows[some], found.distances[some])
    rows = neighbour_rows(ids, wnids, search.database, neighbours, distances[some], ties[some], chosen)
    return [{**names, **row} for row in rows]


def _open(made: Artifact) -> Vectors:
    return open_vectors(sorted(made.path.glob("*.arrow")))


def _digests(shards: Artifact) -> dict[str, str]:
    """The SHA-256 of each image's source file, by key."""
    samples = pq.ParquetFile(shards.path / "samples.parquet").read(columns=["key", "source_sha256"])
    return dict(zip(samples["key"].to_pylist(), samples["source_sha256"].to_pylist(), strict=True))


def _write(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    with atomic_write(path) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)


if __name__ == "__main__":
    run_worker(RetrieveJob, main)
