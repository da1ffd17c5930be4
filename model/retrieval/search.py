"""The exact k nearest neighbours of queries in a database of any size.

The queries are in memory, the database is read once in blocks. Neighbours are sorted by (distance, key). The result has the
same bits for any blocks, threads and processes: each process searches some rows, and `merge` puts their results together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from base.errors import InputError
from model.retrieval.distances import Metric, Queries, queries_of
from model.retrieval.vectors import Block, Values, Vectors


class Neighbours(NamedTuple):
    """The nearest rows of each query, the nearest first."""

    rows: NDArray[np.int64]
    """(Q, k) Numbers of rows of the database."""
    distances: NDArray[np.float64]
    """(Q, k) Squared distances, of directions for `cosine`; see `distances.reported`. Of codes, bits that differ."""


class Found(NamedTuple):
    """The nearest rows of some queries so far, sorted by (query, distance, key)."""

    queries: NDArray[np.int64]
    rows: NDArray[np.int64]
    distances: NDArray[np.float64]


NOTHING = Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def nearest(
    queries: Values,
    database: Vectors,
    k: int,
    metric: Metric = "l2",
    rows: range | None = None,
    block_rows: int | None = None,
) -> Neighbours:
    """Return the k nearest of all rows, or of those in `rows`; all of these if they are fewer.

    Raises:
        InputError: queries and database do not fit, the database has fewer than k rows, or a query is not finite.
    """
    check_fit(queries, database, k)
    pieces = queries_of(queries, metric)
    found = [NOTHING] * len(pieces)
    for block in database.blocks(rows, block_rows):
        found = [_search(piece, block, old, k, database.key_order) for piece, old in zip(pieces, found, strict=True)]
    parts = [_by_query(one, len(piece)) for one, piece in zip(found, pieces, strict=True)]
    return Neighbours(np.concatenate([part.rows for part in parts]), np.concatenate([part.distances for part in parts]))


def merge(parts: Sequence[Neighbours], database: Vectors, k: int) -> Neighbours:
    """Return the k nearest of what was found in different rows of one database."""
    numbers = np.arange(len(parts[0].rows))
    found = [Found(np.repeat(numbers, part.rows.shape[1]), part.rows.ravel(), part.distances.ravel()) for part in parts]
    return _by_query(keep_nearest(found, k, database.key_order), len(numbers))


def check_fit(queries: Values, database: Vectors, k: int = 1) -> None:
    """Raise an `InputError` if the queries cannot be compared with the database, or if it has fewer than k rows."""
    kinds = [queries.dtype.kind, database.dtype.kind]
    if queries.ndim != 2 or not len(queries) or queries.shape[1] != database.num_values or kinds[0] != kinds[1]:
        raise InputError(
            f"queries of shape {queries.shape} in {queries.dtype} do not fit a database of {database.num_values:,} values in "
            f"{database.dtype}; expected vectors of the same network, or of the same crop"
        )
    if not 0 < k <= len(database):
        raise InputError(f"{k:,} neighbours were asked for and the database has {len(database):,} images")


def keep_nearest(parts: Sequence[Found], k: int, key_order: NDArray[np.int64]) -> Found:
    """Return the k nearest rows of each query in all parts, sorted."""
    queries, rows = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    distances = np.concatenate([part.distances for part in parts])
    order = np.lexsort((key_order[rows], distances, queries))
    first = np.searchsorted(queries[order], queries[order])  # where the rows of each query begin
    kept = order[np.arange(len(order)) - first < k]
    return Found(queries[kept], rows[kept], distances[kept])


def _search(queries: Queries, block: Block, old: Found, k: int, key_order: NDArray[np.int64]) -> Found:
    limits = np.full(len(queries), np.inf)
    last = np.searchsorted(old.queries, np.arange(len(queries)) + 1) - 1  # of each query; before the first block there is none
    if len(old.queries) >= k * len(queries):
        limits = old.distances[last]
    pairs = queries.candidates(block.values, k, limits)
    distances = queries.exact(block.values, pairs)
    new = Found(pairs.queries, pairs.rows + block.start, distances)
    return keep_nearest((old, new), k, key_order)


def _by_query(found: Found, num_queries: int) -> Neighbours:
    return Neighbours(found.rows.reshape(num_queries, -1), found.distances.reshape(num_queries, -1))
