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


def directions(values):
    lengths = np.sqrt(np.square(values).sum(axis=1, keepdims=True))
    return values / np.where(lengths > 0, lengths, 1)


def brute_force(queries, values, keys, k, metric="l2"):
    """Compare one pair after the other in float64."""
    queries, values = queries.astype(np.float64), values.astype(np.float64)
    if metric == "cosine":
        queries, values = directions(queries), directions(values)
    rows, distances = [], []
    for query in queries:
        all_distances = np.array([np.square(query - one).sum() for one in values])
        order = sorted(range(len(values)), key=lambda row: (all_distances[row], keys[row]))[:k]
        rows.append(order)
        distances.append(all_distances[order])
    return np.array(rows), np.array(distances)


def features(num, dim=64, seed=0, dtype=np.float32):
    """Sparse and not negative, as after ReLU."""
    return np.maximum(np.random.default_rng(seed).standard_normal((num, dim)), 0).astype(dtype)


def nearly_equal(num, dim=64):
    """Vectors that differ from the first one in the last bits of a few values, many of them not at all."""
    generator, base = np.random.default_rng(1), features(1, dim)[0] * 100 + 1
    values = np.tile(base, (num, 1))
    for row in values[::2]:
        places = generator.integers(0, dim, 3)
        row[places] = np.nextafter(row[places], np.float32(np.inf))
    return values


def pixel_vectors(num, dim=3 * 16 * 16):
    return np.random.default_rng(2).integers(0, 256, (num, dim), dtype=np.uint8)


def shuffled_keys(num):
    return [f"key-{number:05d}" for number in np.random.default_rng(3).permutation(num)]


CASES = {
    "features": (features(30, seed=1), features(400)),
    "half precision": (features(30, seed=1, dtype=np.float16), features(400, dtype=np.float16)),
    "last bits": (nearly_equal(30)[:3], nearly_equal(400)),
    "duplicates": (features(5), np.repeat(features(20), 20, axis=0)),
    "zeros": (np.zeros((2, 64), np.float32), np.concatenate([np.zeros((50, 64), np.float32), features(50)])),
    "far from the origin": (features(30, seed=1) + 1000, features(400) + 1000),
    "large and small": (features(30, seed=1), features(400) * np.geomspace(1e-3, 1e3, 400, dtype=np.float32)[:, None]),
    "pixels": (pixel_vectors(10), pixel_vectors(200)[::-1]),
    "pixels of few values": (pixel_vectors(10) // 255, pixel_vectors(200) // 255),
    "many pixels": (pixel_vectors(3, 5000), 255 - pixel_vectors(40, 5000)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_neighbours_are_those_of_brute_force(store, name, metric):
    queries, values = CASES[name]
    if queries.dtype == np.uint8 and metric == "cosine":
        pytest.skip("pixels are compared by L2 only")
    keys = shuffled_keys(len(values))
    rows, distances = brute_force(queries, values, keys, 6, metric)
    for block_rows in (1, 7, 100, 1000):
        found = nearest(queries, store(values, [len(values) // 3, len(values) - len(values) // 3], keys=keys), 6, metric, None, block_rows)
        assert np.array_equal(found.rows, rows)
        assert np.array_equal(found.distances, distances)


def test_an_image_is_its_own_neighbour_at_distance_zero(store):
    values = features(100) * 1000 + 500
    found = nearest(values, store(values), 1)
    assert np.array_equal(found.rows[:, 0], np.arange(100))
    assert not found.distances.any()


def test_all_rows_can_be_asked_for(store):
    queries, values = features(3, seed=1), features(20)
    rows, _ = brute_force(queries, values, [f"key-{n:05d}" for n in range(20)], 20)
    for block_rows in (3, 50):
        assert np.array_equal(nearest(queries, store(values), 20, block_rows=block_rows).rows, rows)


@pytest.mark.parametrize("name", ["features", "last bits", "pixels"])
@pytest.mark.parametrize("num_queries", [1, 7])
def test_a_query_has_the_same_neighbours_alone_and_among_others(store, name, num_queries):
    queries, values = CASES[name]
    database = store(values)
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


@pytest.mark.parametrize("name", ["features", "pixels"])
def test_processes_that_share_the_database_give_the_same_bytes(store, name):
    queries, values = CASES[name]
    database = store(values)
    whole = nearest(queries, database, 6)
    search = partial(search_slice, [part.path for part in database.parts], queries, 2)
    slices = [range(0, 3), range(3, 3), range(3, 150), range(150, len(values))]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(search, slices))
    found = merge(parts, database, 6)
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
