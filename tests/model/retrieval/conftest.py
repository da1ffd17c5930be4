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
