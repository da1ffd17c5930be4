"""An image to the middle of a smaller one by area interpolation, compiled by numba.

Called by `data_shards.images`. Each pixel is the mean of the area that it covers: that of `cv2.INTER_AREA` to within one level.
Rows are added up before columns, and only the pixels that are kept are computed, which takes a quarter of the time. Sums are in
single precision and in a fixed order, so that every processor gives the same pixels.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Places = NDArray[np.uintp]
Weights = NDArray[np.float32]


Function = TypeVar("Function", bound=Callable[..., None])


def compiled(function: Function) -> Function:
    """Return a function that is compiled when it is first called, and cached on disk if a folder can be written."""
    try:
        cached: Function = njit(nogil=True, cache=True)(function)
        return cached
    except RuntimeError:  # numba can write neither to the source's folder nor to the user's
        uncached: Function = njit(nogil=True)(function)
        return uncached


def scale_down(pixels: Pixels, size: tuple[int, int], kept: tuple[int, int]) -> Pixels:
    """Return the middle `kept` (height, width) of the pixels (H, W, 3) scaled down to `size`."""
    height, width = pixels.shape[:2]
    rows, columns = area_weights(height, size[0], kept[0]), area_weights(width, size[1], kept[1])
    scaled = np.empty((*kept, 3), np.uint8)
    _scale_down(np.ascontiguousarray(pixels), *rows, *columns, scaled)
    return scaled


@lru_cache(maxsize=256)  # photographs come in few sizes
def area_weights(old: int, new: int, kept: int) -> tuple[Places, Weights]:
    """Return the first old pixel that each of the middle `kept` of `new` pixels covers, and its weights from there on.

    Shapes (kept,) and (kept, taps).
    """
    scale = old / new
    taps = min(old, math.ceil(scale) + 1)
    left = (np.arange(kept)[:, None] + (new - kept) // 2) * scale
    first = np.minimum(left.astype(np.int64), old - taps)
    pixels = first + np.arange(taps)
    covered = np.minimum(left + scale, pixels + 1) - np.maximum(left, pixels)
    return first[:, 0].astype(np.uintp), (covered.clip(0) / scale).astype(np.float32)


@compiled
def _scale_down(
    pixels: Pixels, top: Places, row_weights: Weights, left: Places, column_weights: Weights, scaled: Pixels
) -> None:
    begin, end = left[0], left[-1] + np.uintp(column_weights.shape[1])
    left = left - begin
    row = np.empty((end - begin, 3), np.float32)
    total = row.reshape(-1)
    for y in range(scaled.shape[0]):
        total[:] = 0
        for k in range(row_weights.shape[1]):
            if row_weights[y, k]:
                _add(total, row_weights[y, k], pixels[top[y] + np.uintp(k), begin:end].reshape(-1))
        _scale_row(row, left, column_weights, scaled[y])


@compiled
def _add(total: Weights, weight: np.float32, values: Pixels) -> None:
    for i in range(total.size):
        total[i] += weight * np.float32(values[i])


@compiled
def _scale_row(row: Weights, left: Places, weights: Weights, scaled: Pixels) -> None:
    for x in range(scaled.shape[0]):
        red = green = blue = np.float32(0.5)
        for k in range(weights.shape[1]):
            weight, pixel = weights[x, k], row[left[x] + np.uintp(k)]  # unsigned: no wraparound check
            red, green, blue = red + weight * pixel[0], green + weight * pixel[1], blue + weight * pixel[2]
        scaled[x, 0], scaled[x, 1], scaled[x, 2] = np.int32(red), np.int32(green), np.int32(blue)
