"""Vectors on disk, in shards of any size."""

from pathlib import Path

import numpy as np
import pytest

from model.retrieval.vectors import Vectors, open_vectors, write_vectors


def write_parts(directory: Path, values, sizes=None, keys=None, wnids=None, about=None) -> Vectors:
    """Write the rows of `values` in parts of these sizes and open them."""
    directory.mkdir(parents=True, exist_ok=True)
    keys = keys if keys is not None else [f"key-{number:05d}" for number in range(len(values))]
    ends = np.cumsum(sizes if sizes is not None else [len(values)])
    paths = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        paths.append(directory / f"{start:06d}.arrow")
        labels = None if wnids is None else wnids[start:end]
        write_vectors(paths[-1], keys[start:end], labels, values[start:end], about or {})
    return open_vectors(paths)


@pytest.fixture
def store(tmp_path):
    """Return a function that writes vectors in parts and opens them."""
    count = iter(range(1000))
    return lambda values, *args, **kwargs: write_parts(tmp_path / f"vectors-{next(count)}", values, *args, **kwargs)


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


@pytest.fixture(params=list(CASES))
def case(request):
    """Queries, the vectors of a database, and its keys in another order."""
    queries, values = CASES[request.param]
    return queries, values, shuffled_keys(len(values))


def compare_all(queries, values, keys, metric="l2"):
    """Return the rows of each query sorted by (distance, key) and the distances by row, one pair after the other in float64."""
    queries, values = queries.astype(np.float64), values.astype(np.float64)
    if metric == "cosine":
        queries, values = (
            one / np.maximum(np.sqrt(np.square(one).sum(axis=1, keepdims=True)), 1e-30) for one in (queries, values)
        )
    distances = np.array([[np.square(query - one).sum() for one in values] for query in queries])
    return np.array([sorted(range(len(values)), key=lambda row: (line[row], keys[row])) for line in distances]), distances


@pytest.fixture(scope="session")
def brute_force():
    """Return `compare_all`."""
    return compare_all
