"""Exact neighbours against brute force in float64, for any blocks and processes."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest

from base.errors import InputError
from model.retrieval.distances import reported, set_num_threads
from model.retrieval.search import merge, nearest
from model.retrieval.vectors import open_vectors


def features(num, dim=64, seed=0, dtype=np.float32):
    """Sparse and not negative, as after ReLU."""
    return np.maximum(np.random.default_rng(seed).standard_normal((num, dim)), 0).astype(dtype)


def directions(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_neighbours_are_those_of_brute_force(store, case, brute_force, metric):
    queries, values, keys = case
    if queries.dtype == np.uint8 and metric == "cosine":
        pytest.skip("pixels are compared by L2 only")
    rows, distances = brute_force(queries, values, keys, metric)
    rows, distances = rows[:, :6], np.take_along_axis(distances, rows[:, :6], axis=1)
    database = store(values, [len(values) // 3, len(values) - len(values) // 3], keys=keys)
    for block_rows in (1, 7, 100, 1000):
        found = nearest(queries, database, 6, metric, block_rows=block_rows)
        assert np.array_equal(found.rows, rows)
        assert np.array_equal(found.distances, distances)


def test_an_image_is_its_own_neighbour_at_distance_zero(store):
    values = features(100) * 1000 + 500
    found = nearest(values, store(values), 1)
    assert np.array_equal(found.rows[:, 0], np.arange(100))
    assert not found.distances.any()


def test_all_rows_can_be_asked_for(store, brute_force):
    queries, values = features(3, seed=1), features(20)
    rows, _ = brute_force(queries, values, [f"key-{n:05d}" for n in range(20)])
    for block_rows in (3, 50):
        assert np.array_equal(nearest(queries, store(values), 20, block_rows=block_rows).rows, rows)


@pytest.mark.parametrize("case", ["features", "last bits", "pixels"], indirect=True)
@pytest.mark.parametrize("num_queries", [1, 7])
def test_a_query_has_the_same_neighbours_alone_and_among_others(store, case, num_queries):
    queries, values, keys = case
    database = store(values, keys=keys)
    whole = nearest(queries, database, 6)
    parts = [nearest(queries[start : start + num_queries], database, 6) for start in range(0, len(queries), num_queries)]
    for found, expected in zip(zip(*parts, strict=True), whole, strict=True):
        assert np.concatenate(found).tobytes() == expected.tobytes()


def test_more_queries_than_fit_at_once_have_the_same_neighbours(store):
    database, queries = store(features(50)), features(1100, seed=1)
    found = nearest(queries, database, 3)
    for start in (0, 500, 1090):
        assert np.array_equal(found.rows[start : start + 10], nearest(queries[start : start + 10], database, 3).rows)


def search_slice(paths, queries, num_threads, rows):
    set_num_threads(num_threads)
    return nearest(queries, open_vectors(paths), 6, rows=rows)


def test_processes_that_share_the_database_give_the_same_bytes(store):
    pixels = [np.random.default_rng(seed).integers(0, 256, (num, 768), dtype=np.uint8) for seed, num in ((0, 10), (1, 300))]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for queries, values in ((features(10, seed=1), features(300)), pixels):
            database = store(values, [100, 200])
            whole = nearest(queries, database, 6)
            search = partial(search_slice, [part.path for part in database.parts], queries, 2)
            slices = [range(3), range(3, 3), range(3, 150), range(150, len(values))]
            found = merge(list(pool.map(search, slices)), database, 6)
            assert found.rows.tobytes() == whole.rows.tobytes()
            assert found.distances.tobytes() == whole.distances.tobytes()


def test_distances_are_reported_as_euclidean_and_as_one_minus_the_cosine(store):
    queries, values = features(2, seed=1), features(20)
    x, y = queries.astype(np.float64), values.astype(np.float64)
    found = nearest(queries, store(values), 1)
    expected = np.linalg.norm(x - y[found.rows[:, 0]], axis=1)
    np.testing.assert_allclose(reported(found.distances, "l2")[:, 0], expected, rtol=1e-12)
    found = nearest(queries, store(values), 1, "cosine")
    expected = 1 - (directions(x) * directions(y)[found.rows[:, 0]]).sum(axis=1)
    np.testing.assert_allclose(reported(found.distances, "cosine")[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (features(2, dim=3), 1, "queries of shape \\(2, 3\\) in float32 do not fit a database of 64 values in float32"),
        (features(2, dtype=np.uint8), 1, "in uint8 do not fit"),
        (features(0), 1, "do not fit"),
        (features(2), 0, "0 neighbours were asked for and the database has 5 images"),
        (features(2), 6, "6 neighbours were asked for"),
        (np.full((1, 64), np.nan, np.float32), 1, "a query has values that are not finite"),
    ],
)
def test_what_cannot_be_searched_is_an_error(store, queries, k, message):
    with pytest.raises(InputError, match=message):
        nearest(queries, store(features(5)), k)
