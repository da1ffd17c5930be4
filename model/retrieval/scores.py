"""How well a ranking retrieves: expected values over all orders of rows at equal distances, in closed form.

A query's score follows from the places of its targets (`model.retrieval.places`), the rows of its class or its true
neighbours. Rows at equal distances have no order; a code of 28 bits puts hundreds of them at each distance. [McSherry & Najork
2008] The order of the database makes no difference.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from model.retrieval.places import Places, Targets

Floats = NDArray[np.float64]

NUM_RESAMPLES = 10_000
"""(ours) Enough for two digits of the ends of an interval."""
SEED = 0
"""(ours) Fixed, so that the same scores have the same interval."""
DRAWS_AT_ONCE = 2**22
"""(ours) Numbers of queries drawn at once: 32 MB."""


def average_precision(targets: Targets, places: Places) -> Floats:
    """Return the expected average precision of each query (Q,), over the whole database and all of its targets.

    A query without targets has 0. Of n rows at one distance, r of them targets, the i-th is one with probability r ÷ n, and
    if it is, (i − 1)(r − 1) ÷ (n − 1) targets are expected before it at this distance.
    """
    order = np.lexsort((places.num_nearer, targets.queries))
    queries, nearer, tied = targets.queries[order], places.num_nearer[order], places.num_tied[order]
    first = np.ones(len(order), bool)
    first[1:] = (queries[1:] != queries[:-1]) | (nearer[1:] != nearer[:-1])
    begin = np.flatnonzero(first)  # of each distance of each query
    r, n, b = np.diff(begin, append=len(order)), tied[begin], nearer[begin]
    before = begin - targets.starts[queries[begin]]  # targets that are nearer
    sums = (before + 1) * _inverse_sum(b, n)  # Σ (before + 1) ÷ (b + i)
    many = n > 1
    sums[many] += (
        (r[many] - 1) / (n[many] - 1) * (n - (b + 1) * _inverse_sum(b, n))[many]
    )  # Σ (i − 1) ÷ (b + i) = n − (b + 1) Σ 1 ÷ (b + i)
    totals = np.bincount(queries[begin], r / n * sums, targets.num_queries)
    return totals / np.maximum(np.diff(targets.starts), 1)


def hits(targets: Targets, places: Places, k: int) -> Floats:
    """Return how many of each query's targets are expected among the k nearest rows (Q,)."""
    shares = np.clip((k - places.num_nearer) / places.num_tied, 0, 1)
    order = np.lexsort((shares, targets.queries))  # so that the sums do not depend on the order of the database
    return np.bincount(targets.queries, shares[order], targets.num_queries).astype(np.float64)  # whole numbers without any


def precision(targets: Targets, places: Places, k: int) -> Floats:
    """Return the expected share of targets among each query's k nearest rows (Q,)."""
    return hits(targets, places, k) / k


def recall(targets: Targets, places: Places, k: int) -> Floats:
    """Return the expected share of each query's targets that are among the k nearest rows (Q,); 0 without targets."""
    return hits(targets, places, k) / np.maximum(np.diff(targets.starts), 1)


def precision_within(targets: Targets, places: Places, radius: float, num_within: NDArray[np.int64]) -> Floats:
    """Return the share of targets among the rows within a distance of each query (Q,); 0 if there are none.

    `num_within` counts all rows within it (Q,).
    """
    found = np.bincount(targets.queries, places.distances <= radius, targets.num_queries)
    return found / np.maximum(num_within, 1)


def mean_interval(scores: Floats) -> tuple[float, float]:
    """Return both ends of the 95 % percentile interval of the mean over queries, by the bootstrap over queries."""
    low, high = np.quantile(np.concatenate(list(_resampled_means(scores))), [0.025, 0.975])
    return float(low), float(high)


def _resampled_means(scores: Floats) -> Iterator[Floats]:
    generator = np.random.Generator(np.random.PCG64(SEED))
    step = max(1, DRAWS_AT_ONCE // len(scores))
    for start in range(0, NUM_RESAMPLES, step):
        drawn = generator.integers(0, len(scores), (min(step, NUM_RESAMPLES - start), len(scores)))
        yield scores[drawn].mean(axis=1)


def _inverse_sum(b: NDArray[np.int64], n: NDArray[np.int64]) -> Floats:
    """Return Σ 1 ÷ (b + i) over i from 1 to n."""
    harmonic = np.concatenate(([0.0], np.cumsum(1 / np.arange(1, (b + n).max(initial=0) + 1))))
    sums: Floats = np.where(n == 1, 1 / (b + 1), harmonic[b + n] - harmonic[b])
    return sums
