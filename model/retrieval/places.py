"""At which place of a query's ranking given rows stand: how many rows of the database are nearer, and how many as near.

From this follow all scores (`model.retrieval.scores`) and the pixel ranks of feature neighbours, without ever sorting the
database: it is read twice in blocks. The counts are exact and those of different rows of the database add up.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.retrieval.distances import QUERIES_AT_ONCE, Metric, Pairs, Queries, queries_of
from model.retrieval.search import check_fit
from model.retrieval.vectors import Block, Values, Vectors

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class Targets:
    """Rows of a database, any number for each query."""

    def __init__(self, queries: NDArray[np.int64], rows: NDArray[np.int64], num_queries: int) -> None:
        """Take pairs of a query and a row (T,), sorted by query."""
        self.queries, self.rows, self.num_queries = queries, rows, num_queries

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(Q + 1,) Where the targets of each query begin."""
        return np.searchsorted(self.queries, np.arange(self.num_queries + 1))


class Places(NamedTuple):
    """Where each target (T,) stands in the ranking of its query."""

    distances: Floats
    """As `search.Neighbours.distances`."""
    num_nearer: Counts
    """Rows of the database that are nearer."""
    num_tied: Counts
    """Rows at the same distance, the target included."""


def targets_of(rows: NDArray[np.int64]) -> Targets:
    """Return the same number of rows for each query, (Q, k), as targets."""
    return Targets(np.repeat(np.arange(len(rows)), rows.shape[1]), rows.ravel(), len(rows))


def same_class(query_wnids: Sequence[str | None], database_wnids: Sequence[str | None]) -> Targets:
    """Return for each query the rows with its WNID."""
    wnids, classes = np.unique(np.array([str(wnid) for wnid in database_wnids]), return_inverse=True)
    order = np.argsort(classes, kind="stable")
    ends = np.cumsum(np.bincount(classes, minlength=len(wnids)))
    rows_of = {str(wnid): rows for wnid, rows in zip(wnids, np.split(order, ends[:-1]), strict=True)}
    rows = [rows_of.get(wnid, order[:0]) if wnid is not None else order[:0] for wnid in query_wnids]
    queries = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
    return Targets(queries, np.concatenate([order[:0], *rows]), len(rows))


def place(queries: Values, database: Vectors, targets: Targets, metric: Metric = "l2", block_rows: int | None = None) -> Places:
    """Return the places of all targets."""
    distances = target_distances(queries, database, targets, metric, block_rows=block_rows)
    return Places(distances, *count_nearer(queries, database, targets, distances, metric, block_rows=block_rows))


def place_each(queries: Values, database: Vectors, groups: Sequence[Targets], metric: Metric = "l2") -> list[Places]:
    """Return the places of several groups of targets, for which the database is read together."""
    numbers, rows = (np.concatenate([getattr(group, name) for group in groups]) for name in ("queries", "rows"))
    order = np.argsort(numbers, kind="stable")
    placed = place(queries, database, Targets(numbers[order], rows[order], groups[0].num_queries), metric)
    back = np.argsort(order, kind="stable")
    ends = np.cumsum([len(group.rows) for group in groups])[:-1]
    return [Places(*parts) for parts in zip(*(np.split(column[back], ends) for column in placed), strict=True)]


def target_distances(
    queries: Values,
    database: Vectors,
    targets: Targets,
    metric: Metric = "l2",
    rows: range | None = None,
    block_rows: int | None = None,
) -> Floats:
    """Return the exact distance of each target (T,), 0 for one that is not in `rows`: those of several processes add up.

    Raises:
        InputError: queries and database do not fit, or a query is not finite.
    """
    check_fit(queries, database)
    distances, pieces = np.zeros(len(targets.rows)), queries_of(queries, metric)
    order = np.argsort(targets.rows, kind="stable")
    sorted_rows = targets.rows[order]
    for block in database.blocks(rows, block_rows):
        here = np.sort(order[slice(*np.searchsorted(sorted_rows, [block.start, block.stop]))])
        ends = np.searchsorted(targets.queries[here], np.arange(1, len(pieces)) * QUERIES_AT_ONCE)
        for number, (piece, some) in enumerate(zip(pieces, np.split(here, ends), strict=True)):
            pairs = Pairs(targets.queries[some] - number * QUERIES_AT_ONCE, targets.rows[some] - block.start)
            distances[some] = piece.exact(block.values, pairs)
    return distances


def count_nearer(
    queries: Values,
    database: Vectors,
    targets: Targets,
    distances: Floats,
    metric: Metric = "l2",
    rows: range | None = None,
    block_rows: int | None = None,
) -> tuple[Counts, Counts]:
    """Return how many of all rows, or of those in `rows`, are nearer than each target and how many are as near, it included.

    `distances` are those of `target_distances`, of all processes together.
    """
    nearer, tied = np.zeros((2, len(targets.rows)), np.int64)
    pieces = queries_of(queries, metric)
    for block in database.blocks(rows, block_rows):
        for number, piece in enumerate(pieces):
            _count_block(piece, block, targets, distances, number * QUERIES_AT_ONCE, nearer, tied)
    return nearer, tied


def _count_block(
    queries: Queries, block: Block, targets: Targets, distances: Floats, first: int, nearer: Counts, tied: Counts
) -> None:
    """Add the rows of a block to the counts of the targets of these queries, the first of which has the number `first`."""
    matrix, errors = queries.matrix(block.values, np.arange(len(queries)))
    for place, (row, error) in enumerate(zip(matrix, errors, strict=True)):
        own = slice(*targets.starts[first + place : first + place + 2])
        limits, here = distances[own], targets.rows[own] - block.start
        inside = (here >= 0) & (here < len(row))
        row[here[inside]] = np.inf  # their distances are known; the others' may be off by `error`
        near = np.flatnonzero(_is_near(row, np.sort(limits), error)) if error else here[:0]
        if len(near):
            row[near] = queries.exact(block.values, Pairs(np.full(len(near), place), near))
        row[here[inside]] = limits[inside]
        row.sort()
        counts = np.searchsorted(row, limits, side="left")
        nearer[own] += counts
        tied[own] += np.searchsorted(row, limits, side="right") - counts


def _is_near(row: Floats, limits: Floats, error: float) -> NDArray[np.bool_]:
    """Whether each distance is so near to a limit that its error matters."""
    near: NDArray[np.bool_] = np.searchsorted(limits, row - error) < np.searchsorted(limits, row + error, side="right")
    return near
