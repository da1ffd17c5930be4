"""Pixels in, the middle of the same image at another size out.

Called by `data_shards.images`. A smaller image is the one that `cv2.INTER_AREA` makes, each pixel the mean of the area that it
covers, to within one level. But rows are added up before columns, and only what is kept is computed: a quarter of the time.
Sums are in single precision and in a fixed order, so that every processor gives the same pixels.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_ELONGATION = 16
"""(ours) Of an image more elongated than this only the middle is scaled up, where only a square is kept of it."""

Pixels = NDArray[np.uint8]
Places = NDArray[np.uintp]
Weights = NDArray[np.float32]


Function = TypeVar("Function", bound=Callable[..., None])


def compiled(function: Function) -> Function:
    """Have a function compiled when it is first called, and kept on disk where there is a folder that can be written."""
    try:
        kept: Function = njit(nogil=True, cache=True)(function)
        return kept
    except RuntimeError:  # numba's, where neither the source's folder nor the user's can be written
        anew: Function = njit(nogil=True)(function)
        return anew


def resize_middle(pixels: Pixels, size: tuple[int, int], kept: tuple[int, int]) -> Pixels:
    """Return the middle `kept` (height, width) of the pixels (H, W, 3) scaled to `size`: by area down, by cubics up."""
    height, width = pixels.shape[:2]
    if size == (height, width):
        return _middle(pixels, kept)
    if size[0] > height or size[1] > width:
        return _middle(_scale_up(pixels, size, kept), kept)
    rows, columns = area_weights(height, size[0], kept[0]), area_weights(width, size[1], kept[1])
    scaled = np.empty((*kept, 3), np.uint8)
    _scale_down(np.ascontiguousarray(pixels), *rows, *columns, scaled)
    return scaled


@lru_cache(maxsize=256)  # photographs come in few sizes
def area_weights(old: int, new: int, kept: int) -> tuple[Places, Weights]:
    """For each of the middle `kept` of `new` pixels: the first old one it covers, and the share of that and of the next.

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
            weight, pixel = weights[x, k], row[left[x] + np.uintp(k)]  # unsigned, so that none is looked for from the end
            red, green, blue = red + weight * pixel[0], green + weight * pixel[1], blue + weight * pixel[2]
        scaled[x, 0], scaled[x, 1], scaled[x, 2] = np.int32(red), np.int32(green), np.int32(blue)


def _scale_up(pixels: Pixels, size: tuple[int, int], kept: tuple[int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    if kept != size:  # without this a strip of 1 × 3,000 would become 256 × 768,000 first
        longest = MAX_ELONGATION * min(height, width)
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        pixels = pixels[top : height - top, left : width - left]
    new_height, new_width = round(size[0] * pixels.shape[0] / height), round(size[1] * pixels.shape[1] / width)
    return cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]  # a stub's lapse


def _middle(pixels: Pixels, kept: tuple[int, int]) -> Pixels:
    top, left = (pixels.shape[0] - kept[0]) // 2, (pixels.shape[1] - kept[1]) // 2
    return np.ascontiguousarray(pixels[top : top + kept[0], left : left + kept[1]])
