"""Distances between queries and blocks of a database: fast ones with a bound on their error, exact ones for single pairs.

The exact distance of a pair is Σ(x − y)² in float64, of the vectors themselves (`l2`) or of their directions (`cosine`). It
depends on the two vectors only, so any blocks, threads and processes give the same bits. For bytes it is a whole number.
Used by `model.retrieval.search` and `model.retrieval.places`. Faiss must not be forked after use: start processes by spawning.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from base.errors import InputError
from model.retrieval.vectors import Values

Metric = Literal["l2", "cosine"]
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

QUERIES_AT_ONCE = 1024
"""(ours) A matrix of distances to a block has at most 1024 × 8192 values: 64 MB."""
SPARE_CANDIDATES = 10
"""(ours) Candidates beyond the k nearest, so that the bound on the error rarely matters."""
PAIR_VALUES = 2**17
"""(ours) Values of the pairs whose distances are computed at once: they fit into the cache of a core."""
EXACT_PRODUCTS = 1024
"""(ours) As many products of two signed bytes, at most 2^14 each, have a sum that float32 holds exactly."""
ROWS_IN_DOUBLE = 1024
"""(ours) Rows that are converted to float64 at once: 32 MB of 4096 values."""


class Pairs(NamedTuple):
    """Pairs of a query and a row, by their numbers (P,)."""

    queries: Rows
    rows: Rows


class Queries(ABC):
    """Some queries, compared with one block after the other."""

    values: Values
    """(Q, D)"""

    def __len__(self) -> int:
        return len(self.values)

    @abstractmethod
    def matrix(self, block: Values, some: Rows) -> tuple[Floats, Floats]:
        """Return distances of `some` queries to all rows, (S, N), and how far each query's may be from exact (S,)."""

    @abstractmethod
    def exact(self, block: Values, pairs: Pairs) -> Floats:
        """Return the exact distance of each pair (P,)."""

    def candidates(self, block: Values, k: int, limits: Floats) -> Pairs:
        """Return pairs, among them the k nearest rows of each query, ties included; none above the query's limit is needed."""
        return self._within(block, np.arange(len(self)), k, limits)

    def _within(self, block: Values, some: Rows, k: int, limits: Floats) -> Pairs:
        """The same for `some` queries, from the distances to all rows."""
        distances, errors = self.matrix(block, some)
        place = min(k, len(block)) - 1
        reach = np.minimum(limits[some], np.partition(distances, place, axis=1)[:, place] + errors)
        found, rows = np.nonzero(distances - errors[:, None] <= reach[:, None])
        return Pairs(some[found], rows)


class FloatQueries(Queries):
    """Queries in float32 or float16. Candidates come from Faiss in float32, distances to all rows are computed in float64."""

    def __init__(self, values: Values, metric: Metric) -> None:
        if not np.isfinite(values).all():
            raise InputError("a query has values that are not finite numbers; use other weights, or float32")
        self.values, self.metric = values, metric
        self.double = _in_double(values, metric)
        self.single = np.ascontiguousarray(self.double, np.float32)
        self.norms = np.square(self.double).sum(axis=1)

    def matrix(self, block: Values, some: Rows) -> tuple[Floats, Floats]:
        """In float64."""
        queries, largest = torch.from_numpy(self.double[some]), 0.0
        distances = np.empty((len(some), len(block)))
        for start in range(0, len(block), ROWS_IN_DOUBLE):
            rows = _in_double(block[start : start + ROWS_IN_DOUBLE], self.metric)
            norms = np.square(rows).sum(axis=1)
            products = torch.mm(queries, torch.from_numpy(rows).T).numpy()
            distances[:, start : start + len(rows)] = self.norms[some, None] + norms - 2 * products
            largest = max(largest, float(norms.max()))
        return distances, _bound(self.norms[some], largest, self.values.shape[1], 2.0**-53)

    def exact(self, block: Values, pairs: Pairs) -> Floats:
        """Σ(x − y)² in float64."""
        return np.concatenate([self._exact(block, *piece) for piece in _pieces(pairs, block.shape[1])] or [np.empty(0)])

    def candidates(self, block: Values, k: int, limits: Floats) -> Pairs:
        """From Faiss, k and ten more; queries for which these may not be enough are compared with every row in float64."""
        rows = np.ascontiguousarray(block if self.metric == "l2" else _in_double(block, self.metric), np.float32)
        number = min(k + SPARE_CANDIDATES, len(rows))
        distances, places = faiss.knn(self.single, rows, number)
        largest = 1.01 * float(np.einsum("nd,nd->n", rows, rows).max())
        errors = _bound(self.norms, largest, rows.shape[1], 2.0**-24)
        reach = np.minimum(limits, distances[:, min(k, number) - 1] + errors)
        unsure = (distances[:, -1] - errors <= reach) & (number < len(rows))
        found = (distances - errors[:, None] <= reach[:, None]) & ~unsure[:, None]
        queries, columns = np.nonzero(found)
        more = self._within(block, np.flatnonzero(unsure), k, limits) if unsure.any() else Pairs(queries[:0], columns[:0])
        return Pairs(np.concatenate((queries, more.queries)), np.concatenate((places[found], more.rows)))

    def _exact(self, block: Values, queries: Rows, rows: Rows) -> Floats:
        distances: Floats = np.square(self.double[queries] - _in_double(block[rows], self.metric)).sum(axis=1)
        return distances


class ByteQueries(Queries):
    """Queries in bytes: every distance is a whole number and exact."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def matrix(self, block: Values, some: Rows) -> tuple[Floats, Floats]:
        """Exact: |x|² + |y|² − 2xy of bytes less 128, each sum of products exact in float32 and their sum in float64."""
        queries = self.values[some]
        distances = np.zeros((len(some), len(block)))
        for start in range(0, block.shape[1], EXACT_PRODUCTS):
            x, y = (_signed(values[:, start : start + EXACT_PRODUCTS]) for values in (queries, block))
            squares = [torch.einsum("nd,nd->n", one, one).double() for one in (x, y)]
            distances += (squares[0][:, None] + squares[1] - 2 * torch.mm(x, y.T)).numpy()
        return distances, np.zeros(len(some))

    def exact(self, block: Values, pairs: Pairs) -> Floats:
        """Whole numbers below 2^53; of many pairs, from the distances to all rows, which are exact too."""
        if len(pairs.rows) > len(block):
            distances, _ = self.matrix(block, np.arange(len(self)))
            return np.asarray(distances[pairs.queries, pairs.rows])
        return np.concatenate([self._exact(block, *piece) for piece in _pieces(pairs, block.shape[1])] or [np.empty(0)])

    def _exact(self, block: Values, queries: Rows, rows: Rows) -> Floats:
        differences = self.values[queries].astype(np.int32) - block[rows]
        distances: NDArray[np.int64] = np.square(differences).sum(axis=1, dtype=np.int64)
        return distances.astype(np.float64)


def queries_of(values: Values, metric: Metric = "l2") -> list[Queries]:
    """Return the queries (Q, D) in pieces of at most `QUERIES_AT_ONCE`.

    Raises:
        InputError: a value is not a finite number.
        ValueError: bytes are compared by cosine.
    """
    if values.dtype == np.uint8 and metric != "l2":
        raise ValueError(f"bytes are compared by l2, not by {metric}")
    pieces = [values[start : start + QUERIES_AT_ONCE] for start in range(0, len(values), QUERIES_AT_ONCE)]
    return [ByteQueries(piece) if piece.dtype == np.uint8 else FloatQueries(piece, metric) for piece in pieces]


def reported(distances: Floats, metric: Metric) -> Floats:
    """Return distances as tables show them: Euclidean for `l2`, 1 − cos for `cosine`."""
    return np.sqrt(distances) if metric == "l2" else distances / 2


def set_num_threads(num_threads: int) -> None:
    """Set how many threads Faiss and torch use in this process; the results do not depend on it."""
    faiss.omp_set_num_threads(num_threads)
    torch.set_num_threads(num_threads)


def _in_double(values: Values, metric: Metric) -> Floats:
    """The vectors, or for `cosine` their directions; a vector of zeros has none and stays as it is."""
    double = values.astype(np.float64)
    if metric == "cosine":
        lengths = np.sqrt(np.square(double).sum(axis=1, keepdims=True))
        double /= np.where(lengths > 0, lengths, 1)
    return double


def _signed(values: Values) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(torch.float32).sub_(128)


def _bound(norms: Floats, largest: float, num_values: int, unit: float) -> Floats:
    """How far |x|² + |y|² − 2xy or Σ(x − y)² may be from the truth, summed in any order with this unit roundoff. [Higham 3.1]

    A few units more are for the rounding of the vectors themselves.
    """
    bound: Floats = (num_values + 16) * unit * (np.sqrt(norms) + np.sqrt(largest)) ** 2
    return bound


def _pieces(pairs: Pairs, num_values: int) -> Iterator[Pairs]:
    step = max(1, PAIR_VALUES // num_values)
    for start in range(0, len(pairs.rows), step):
        yield Pairs(pairs.queries[start : start + step], pairs.rows[start : start + step])
