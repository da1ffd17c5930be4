"""The colours of a training set: what is subtracted from every pixel, and along which directions colour noise runs.

Called by `tasks.workers.colours`; the result travels with the weights, so that testing subtracts what training did.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_shards.images import decode_jpeg
from data_shards.shard_set import ShardSet


class Colours(NamedTuple):
    """RGB statistics over every pixel of a training set, in 0…255."""

    mean: list[float]
    """Of each channel."""
    deviations: list[float]
    """Standard deviations along the principal components, smallest first."""
    components: list[list[float]]
    """The unit eigenvector of each deviation."""
    num_images: int


class _Sums(NamedTuple):
    """Exact in float64 for as many as 2 × 10⁶ images of 256 × 256: sums stay below 2⁵³."""

    pixels: int
    first: NDArray[np.float64]  # (3,)
    second: NDArray[np.float64]  # (3, 3)


def measure_colours(shards: ShardSet, num_threads: int) -> Iterator[int | Colours]:
    """Yield the number of images seen after each tar, and at last the colours."""
    total = _Sums(0, np.zeros(3), np.zeros((3, 3)))
    seen = 0
    with ThreadPoolExecutor(num_threads) as pool:
        for tar, rows in shards.samples.groupby("shard", sort=False):
            data = _read_jpegs(shards.directory / str(tar), zip(rows["offset"], rows["size"], strict=True))
            for sums in pool.map(_image_sums, data):
                total = _Sums(total.pixels + sums.pixels, total.first + sums.first, total.second + sums.second)
            seen += len(rows)
            yield seen
    yield _colours(total, seen)


def _read_jpegs(tar: Path, regions: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    with open(tar, "rb") as file:
        for offset, size in regions:
            file.seek(offset)
            yield file.read(size)


def _image_sums(jpeg: bytes) -> _Sums:
    pixels = decode_jpeg(jpeg).reshape(-1, 3).astype(np.float64)
    return _Sums(len(pixels), pixels.sum(axis=0), pixels.T @ pixels)


def _colours(sums: _Sums, num_images: int) -> Colours:
    mean = sums.first / sums.pixels
    values, vectors = np.linalg.eigh(sums.second / sums.pixels - np.outer(mean, mean))
    deviations = np.sqrt(np.maximum(values, 0))
    return Colours(mean.tolist(), deviations.tolist(), vectors.T.tolist(), num_images)
