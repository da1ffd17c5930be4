"""Blocks of queries to the scores and neighbours of every ranking: `python -m tasks.workers.rank JOB.json ... SHARE`.

Several processes run side by side. A block leaves two files in the scratch space, which depend on its own queries only.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
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
from model.retrieval.places import Targets, place_each, same_class, targets_of
from model.retrieval.rows import (
    NUM_NEIGHBOURS,
    PIXEL_RANKS,
    AtPixelLevel,
    Ranking,
    Scores,
    at_pixel_level,
    neighbour_rows,
    radius_scores,
    scores_of,
)
from model.retrieval.schemas import NEIGHBOURS
from model.retrieval.search import Neighbours, nearest
from model.retrieval.vectors import Values, Vectors, open_vectors
from tasks.job import WORK, Artifact, Share
from tasks.jobs.codes import CODES, DATABASE, QUERIES, CodeName
from tasks.jobs.retrieve import RetrieveJob
from tasks.workers.entry import run_worker

Row = dict[str, Any]


class Method(NamedTuple):
    """What images are ranked by."""

    space: str
    name: str
    code: Path | None = None
    """The folder of the code, if it is by one."""
    measures: Mapping[str, Any] = MappingProxyType({})
    """Of the code."""

    @property
    def columns(self) -> Row:
        """The columns that name it in both tables."""
        bits, seed = (self.measures.get(name) for name in ("bits", "seed"))
        return {"space": self.space, "method": self.name, "bits": bits, "code_seed": seed}


BY_FEATURES: tuple[tuple[Method, Metric], ...] = ((Method("features", "l2"), "l2"), (Method("features", "cosine"), "cosine"))
BY_PIXELS = Method("pixels", "l2")


class Block(NamedTuple):
    """Some queries and the database, and what counts as right."""

    rows: range
    """Of all queries."""
    queries: Vectors
    """All of them."""
    values: Values
    """(Q, D) Of the block."""
    database: Vectors
    nearest: Neighbours
    """The six nearest by features."""
    of_class: Targets
    of_neighbours: Targets
    """Those six."""
    listed: NDArray[np.int64]
    """Which of the block's queries are listed with their neighbours."""


class Ranked(NamedTuple):
    """The neighbours by one method, and the places of what counts as right."""

    found: Neighbours
    distances: NDArray[np.float64]
    """(Q, 6) As tables show them."""
    num_tied: NDArray[np.int64]
    """(Q, 6)"""
    ranking: Ranking


def main(job: RetrieveJob, directory: Path, progress: Progress, share: Share) -> None:
    """Rank the blocks of the share."""
    rank_missing(job, directory / WORK, progress, share)


def rank_missing(job: RetrieveJob, work: Path, progress: Progress, share: Share) -> None:
    """Rank those blocks of a share whose files do not exist."""
    set_num_threads(job.num_threads)
    queries, num_methods = open_artifact(job.queries), len(methods_of(job))
    blocks = share.of(blocks_of(job, queries))
    missing = [rows for rows in blocks if not scores_path(work, rows).exists()]
    done, total = num_methods * (len(blocks) - len(missing)), num_methods * len(blocks)
    progress.report(done, total, "rankings")
    if not missing:
        return
    check_disjoint(_digests(job.query_shards), _digests(job.database_shards))
    database, listed = open_artifact(job.database), _listed(queries, job.num_queries)
    for rows in missing:
        scores: dict[str, NDArray[Any]] = {}
        neighbours: list[Row] = []
        for number, (of_queries, listed_rows) in enumerate(_rankings(job, _block(rows, queries, database, listed))):
            scores |= {score_key(number, name): values for name, values in of_queries.items()}
            neighbours += listed_rows
            done += 1
            progress.report(done, total, "rankings")
        with atomic_write(neighbours_path(work, rows)) as file:
            pq.write_table(pa.Table.from_pylist(neighbours, schema=NEIGHBOURS), file)
        with atomic_write(scores_path(work, rows)) as file:  # the last file: a block that has it is whole
            np.savez(file, allow_pickle=False, **scores)


def blocks_of(job: RetrieveJob, queries: Vectors) -> list[range]:
    """Return the rows of each block of queries."""
    step = job.queries_at_once
    return [range(start, min(start + step, len(queries))) for start in range(0, len(queries), step)]


def methods_of(job: RetrieveJob) -> list[Method]:
    """Return all methods, in the order of their rows."""
    made = [(space, codes.path) for space, codes in (("features", job.codes), ("pixels", job.pixel_codes)) if codes is not None]
    return [
        *(method for method, _ in BY_FEATURES),
        *([BY_PIXELS] if job.query_pixels is not None and job.database_pixels is not None else []),
        *(
            Method(space, code["method"], path / str(CodeName(code["method"], code["bits"], code["seed"])), code)
            for space, path in made
            for code in json.loads((path / CODES).read_bytes())
        ),
    ]


def scores_path(work: Path, rows: range) -> Path:
    """Return the file of the scores of a block: an array for each method and score, named by `score_key`."""
    return work / f"{rows.start:08d}.npz"


def score_key(number: int, name: str) -> str:
    """Return the name of a score of the method with this number."""
    return f"{number} {name}"


def neighbours_path(work: Path, rows: range) -> Path:
    """Return the file of the listed neighbours of a block, as many for each method, in the order of the methods."""
    return work / f"{rows.start:08d}.parquet"


def open_artifact(made: Artifact) -> Vectors:
    """Open the vectors of a split."""
    return _open(made.path)


def _open(folder: Path) -> Vectors:
    return open_vectors(sorted(folder.glob("*.arrow")))


def _listed(queries: Vectors, number: int | None) -> NDArray[np.int64]:
    """Every n-th query in the order of the keys, so that all classes have their share."""
    if number is None or number >= len(queries):
        return np.arange(len(queries))
    order = np.argsort(queries.key_order)
    return np.sort(order[np.linspace(0, len(queries) - 1, number).round().astype(np.int64)])


def _block(rows: range, queries: Vectors, database: Vectors, listed: NDArray[np.int64]) -> Block:
    values = queries.read(rows)
    found = nearest(values, database, NUM_NEIGHBOURS)
    of_class = same_class(queries.wnids[rows.start : rows.stop].to_pylist(), database.wnids.to_pylist())
    own = listed[(listed >= rows.start) & (listed < rows.stop)] - rows.start
    return Block(rows, queries, values, database, found, of_class, targets_of(found.rows), own)


@lru_cache(maxsize=1)
def _by_pixels(queries: Path, database: Path, rows: range) -> tuple[Neighbours, Values, Vectors]:
    """The neighbours of a block by pixels, its pixels and those of the database: the same for every network."""
    values, vectors = _open(queries).read(rows), _open(database)
    return nearest(values, vectors, NUM_NEIGHBOURS), values, vectors


def _rankings(job: RetrieveJob, block: Block) -> Iterator[tuple[Scores, list[Row]]]:
    """Yield for each method the scores of all queries and the rows of those that are listed."""
    pixels = None
    if job.query_pixels is not None and job.database_pixels is not None:
        found, by_pixels, database = _by_pixels(job.query_pixels.path, job.database_pixels.path, block.rows)
        pixels = _ranked(block, found, by_pixels, database, "l2")
    level = None if pixels is None else at_pixel_level(pixels.ranking.of_neighbours[1])
    for method, metric in BY_FEATURES:
        found = block.nearest if metric == "l2" else nearest(block.values, block.database, NUM_NEIGHBOURS, metric)
        ranked = _ranked(block, found, block.values, block.database, metric)
        yield _result(method, block, ranked, level if metric == "l2" else None)
    if pixels is not None:
        yield _result(BY_PIXELS, block, pixels)
    for method in methods_of(job):
        if method.code is not None:
            yield _by_code(method, method.code, block)


def _ranked(block: Block, found: Neighbours, values: Values, database: Vectors, metric: Metric) -> Ranked:
    own, of_class, of_neighbours = place_each(
        values, database, (targets_of(found.rows), block.of_class, block.of_neighbours), metric
    )
    ranking = Ranking((block.of_class, of_class), (block.of_neighbours, of_neighbours))
    return Ranked(found, reported(found.distances, metric), own.num_tied.reshape(found.rows.shape), ranking)


def _by_code(method: Method, code: Path, block: Block) -> tuple[Scores, list[Row]]:
    queries, database = (open_vectors([code / name]) for name in (QUERIES, DATABASE))
    ours, theirs = codes_of(queries)[block.rows.start : block.rows.stop], codes_of(database)
    found = nearest_codes(ours, theirs, database.key_order, NUM_NEIGHBOURS)
    ties = place_codes(ours, theirs, targets_of(found.rows)).num_tied.reshape(found.rows.shape)
    ranking = Ranking(*((targets, place_codes(ours, theirs, targets)) for targets in (block.of_class, block.of_neighbours)))
    scores, rows = _result(method, block, Ranked(found, found.distances, ties, ranking))
    return {**scores, **radius_scores(ranking, count_by_distance(ours, theirs))}, rows


def _result(method: Method, block: Block, ranked: Ranked, pixels: AtPixelLevel | None = None) -> tuple[Scores, list[Row]]:
    """The scores of all queries and the rows of those that are listed; `pixels` are the feature neighbours among pixels."""
    scores, some = scores_of(ranked.ranking), block.listed
    columns = (block.queries.keys, block.queries.wnids)
    ids, wnids = (column.take(pa.array(some + block.rows.start)).to_pylist() for column in columns)
    chosen = None if pixels is None else AtPixelLevel(pixels.ranks[some], pixels.distances[some])
    neighbours = Neighbours(ranked.found.rows[some], ranked.found.distances[some])
    rows = neighbour_rows(ids, wnids, block.database, neighbours, ranked.distances[some], ranked.num_tied[some], chosen)
    listed = [{**method.columns, **row} for row in rows]
    return scores if pixels is None else {**scores, PIXEL_RANKS: pixels.ranks}, listed


def _digests(shards: Artifact) -> dict[str, str]:
    """The SHA-256 of each image's source file, by key."""
    samples = pq.ParquetFile(shards.path / "samples.parquet").read(columns=["key", "source_sha256"])
    return dict(zip(samples["key"].to_pylist(), samples["source_sha256"].to_pylist(), strict=True))


if __name__ == "__main__":
    run_worker(RetrieveJob, main)
