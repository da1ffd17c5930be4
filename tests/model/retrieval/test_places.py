"""Places of given rows against sorting the whole database in float64."""

import numpy as np
import pytest

from model.retrieval import places as module
from model.retrieval.places import Targets, count_nearer, place, same_class, target_distances, targets_of
from model.retrieval.search import nearest


def ragged(num_queries, num_rows):
    """Return from no to ten different rows for each query."""
    generator = np.random.default_rng(5)
    rows = [generator.permutation(num_rows)[: query % 11] for query in range(num_queries)]
    return Targets(np.repeat(np.arange(num_queries), [len(one) for one in rows]), np.concatenate(rows), num_queries)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_places_are_those_of_brute_force(store, case, brute_force, metric):
    queries, values, keys = case
    if queries.dtype == np.uint8 and metric == "cosine":
        pytest.skip("pixels are compared by L2 only")
    targets = ragged(len(queries), len(values))
    _, distances = brute_force(queries, values, keys, metric)
    expected = distances[targets.queries, targets.rows]
    database = store(values, [len(values) // 3, len(values) - len(values) // 3], keys=keys)
    for block_rows in (7, 1000):
        found = place(queries, database, targets, metric, block_rows)
        assert np.array_equal(found.distances, expected)
        assert np.array_equal(found.num_nearer, (distances[targets.queries] < expected[:, None]).sum(axis=1))
        assert np.array_equal(found.num_tied, (distances[targets.queries] == expected[:, None]).sum(axis=1))


@pytest.mark.parametrize("case", ["features", "duplicates", "pixels"], indirect=True)
def test_the_neighbours_found_are_in_the_first_places(store, case):
    queries, values, keys = case
    database = store(values, keys=keys)
    found = nearest(queries, database, 6)
    places = place(queries, database, targets_of(found.rows))
    assert np.array_equal(places.distances, found.distances.ravel())
    ranks = np.tile(np.arange(6), len(queries))
    assert (places.num_nearer <= ranks).all()
    assert (places.num_nearer + places.num_tied > ranks).all()


@pytest.mark.parametrize("case", ["features", "duplicates", "pixels"], indirect=True)
def test_counts_of_different_rows_add_up(store, case):
    queries, values, keys = case
    database, targets = store(values, keys=keys), ragged(len(queries), len(values))
    whole = place(queries, database, targets)
    slices = [range(50), range(50, 51), range(51, len(values))]
    distances = sum(target_distances(queries, database, targets, rows=rows) for rows in slices)
    counts = [count_nearer(queries, database, targets, distances, rows=rows) for rows in slices]
    assert np.array_equal(distances, whole.distances)
    assert np.array_equal(sum(nearer for nearer, _ in counts), whole.num_nearer)
    assert np.array_equal(sum(tied for _, tied in counts), whole.num_tied)


def test_more_queries_than_fit_at_once_have_the_same_places(store, case, monkeypatch):
    queries, values, keys = case
    database, targets = store(values, keys=keys), ragged(len(queries), len(values))
    whole = place(queries, database, targets)
    for name in (module, __import__("model.retrieval.distances", fromlist=["_"])):
        monkeypatch.setattr(name, "QUERIES_AT_ONCE", 3)
    for found, expected in zip(place(queries, database, targets), whole, strict=True):
        assert np.array_equal(found, expected)


def test_rows_of_the_same_class_are_found_in_any_order():
    targets = same_class(["b", None, "a", "z", "b"], ["a", "b", "c", "b", "a"])
    assert [targets.rows[slice(*targets.starts[n : n + 2])].tolist() for n in range(5)] == [[1, 3], [], [0, 4], [], [1, 3]]
    assert targets.num_queries == 5
