"""A training set to its colours: the mean to subtract from every pixel, and the directions of colour noise.

Called by `tasks.workers.colours`. The result is saved with the weights, so that testing subtracts what training did.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from base.errors import InputError
from data_shards.decoding import BadImageError, decode_jpeg
from data_shards.shard_set import ShardSet

IMAGES_PER_PORTION = 32
"""(ours) A thread adds up so many images at a time; few sums then wait to be added."""


class Colours(NamedTuple):
    """RGB statistics over every pixel of a training set, in 0…255."""

    mean: list[float]
    """Of each channel."""
    deviations: list[float]
    """Standard deviations along the principal components, smallest first."""
    components: list[list[float]]
    """The unit eigenvector of each deviation."""
    num_images: int
    mean_image: NDArray[np.float32] | None
    """(H, W, 3) the mean of each pixel; None if the images have different sizes."""


class _Sums(NamedTuple):
    """Sums over pixels; exact in float64 for up to 2 × 10⁶ images of 256 × 256, whose sums are below 2⁵³."""

    pixels: int
    first: NDArray[np.float64]  # (3,)
    second: NDArray[np.float64]  # (3, 3)
    image: NDArray[np.float64] | None  # (H, W, 3)


def measure_colours(shards: ShardSet, num_threads: int, on_tar: Callable[[int], object] = lambda seen: None) -> Colours:
    """Return the colours; `on_tar` is called after each tar with the number of images seen so far."""
    total: _Sums | None = None
    seen = 0
    with ThreadPoolExecutor(num_threads) as pool:
        for tar, rows in shards.samples.groupby("shard", sort=False):
            jpegs = _read_jpegs(shards.directory / str(tar), list(zip(rows["offset"], rows["size"], strict=True)))
            try:
                for sums in pool.map(_sum_up, jpegs):
                    total = sums if total is None else _add(total, sums)
            except BadImageError as error:
                error.add_note(f"in {shards.directory / str(tar)}; check it with python -m flows.verify")
                raise
            seen += len(rows)
            on_tar(seen)
    if total is None:
        raise InputError(f"{shards.directory} holds no images; expected at least one; delete it to shard again")
    return _colours(total, seen)


def _read_jpegs(tar: Path, regions: list[tuple[int, int]]) -> Iterator[list[bytes]]:
    """Yield the JPEGs of a tar in portions for one thread each."""
    with open(tar, "rb") as file:
        for start in range(0, len(regions), IMAGES_PER_PORTION):
            yield [_read(file, *region) for region in regions[start : start + IMAGES_PER_PORTION]]


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _sum_up(jpegs: list[bytes]) -> _Sums:
    return reduce(_add, map(_image_sums, jpegs))


def _image_sums(jpeg: bytes) -> _Sums:
    image = decode_jpeg(jpeg).astype(np.float64)
    pixels = image.reshape(-1, 3)
    return _Sums(len(pixels), pixels.sum(axis=0), pixels.T @ pixels, image)


def _add(a: _Sums, b: _Sums) -> _Sums:
    """Return the sums of both; images of different sizes have no sum of images."""
    image = None
    if a.image is not None and b.image is not None and a.image.shape == b.image.shape:
        image = a.image + b.image
    return _Sums(a.pixels + b.pixels, a.first + b.first, a.second + b.second, image)


def _colours(sums: _Sums, num_images: int) -> Colours:
    mean = sums.first / sums.pixels
    values, vectors = np.linalg.eigh(sums.second / sums.pixels - np.outer(mean, mean))
    deviations = np.sqrt(np.maximum(values, 0))
    mean_image = None if sums.image is None else (sums.image / num_images).astype(np.float32)
    return Colours(mean.tolist(), deviations.tolist(), vectors.T.tolist(), num_images, mean_image)
