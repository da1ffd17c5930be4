"""Scaling by area and by cubics: OpenCV's pixels, fewer of them computed."""

import cv2
import numpy as np
import pytest
from numba.core.caching import CompileResultCacheImpl
from numpy.typing import NDArray

from data_shards.images import resize_middle
from data_shards.scaling import area_weights, compiled

SMALLER = [
    ((375, 500), (256, 341)),
    ((500, 333), (384, 256)),
    ((257, 257), (256, 256)),
    ((512, 768), (256, 384)),
    ((300, 256), (300, 256)),
    ((1000, 70), (914, 64)),
    ((1024, 1536), (64, 96)),
    ((90, 2000), (64, 1422)),
]


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def middle(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.int64]:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width].astype(np.int64)


@pytest.mark.parametrize(("old", "new"), SMALLER)
def test_a_smaller_image_is_that_of_opencv_to_within_one_level(old: tuple[int, int], new: tuple[int, int]) -> None:
    pixels = noise(*old)
    difference = np.abs(
        resize_middle(pixels, new, new) - cv2.resize(pixels, new[::-1], interpolation=cv2.INTER_AREA).astype(int)
    )
    assert difference.max() <= 1
    assert difference.mean() < 0.01  # halves round up here, to the even level there


@pytest.mark.parametrize(("old", "new"), [*SMALLER, ((100, 150), (128, 192)), ((30, 480), (64, 1024))])
@pytest.mark.parametrize("kept", [(64, 64), (64, 61), (1, 1)])
def test_what_is_kept_is_the_middle_of_the_whole(old: tuple[int, int], new: tuple[int, int], kept: tuple[int, int]) -> None:
    pixels = noise(*old)
    assert (resize_middle(pixels, new, kept) == middle(resize_middle(pixels, new, new), *kept)).all()


@pytest.mark.parametrize(("old", "new"), [((100, 150), (128, 192)), ((64, 65), (128, 130)), ((2, 3), (256, 384))])
def test_a_larger_image_is_that_of_opencv(old: tuple[int, int], new: tuple[int, int]) -> None:
    pixels = noise(*old)
    assert (resize_middle(pixels, new, new) == cv2.resize(pixels, new[::-1], interpolation=cv2.INTER_CUBIC)).all()


@pytest.mark.parametrize(
    ("old", "new"), [(375, 256), (256, 256), (1836, 256), (257, 256), (65500, 256), (4000, 3999), (3, 2), (5, 1)]
)
def test_every_old_pixel_counts_once(old: int, new: int) -> None:
    first, weights = area_weights(old, new, new)
    taken = np.zeros(old)
    for start, row in zip(first.astype(int), weights, strict=True):
        taken[start : start + len(row)] += row
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(taken, new / old, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_an_even_image_stays_as_bright_as_it_was(level: int) -> None:
    assert (resize_middle(np.full((777, 1001, 3), level, np.uint8), (256, 330), (256, 256)) == level).all()


def test_pixels_in_any_order_of_memory_and_read_only_ones_are_scaled_alike() -> None:
    pixels = noise(90, 120)
    locked = pixels.copy()
    locked.flags.writeable = False
    expected = resize_middle(pixels, (64, 85), (64, 64))
    assert (resize_middle(locked, (64, 85), (64, 64)) == expected).all()
    assert (resize_middle(np.asfortranarray(pixels), (64, 85), (64, 64)) == expected).all()


def fill(pixels: NDArray[np.uint8]) -> None:
    pixels[:] = 7


def test_functions_are_compiled_without_a_cache_if_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    pixels = np.zeros(3, np.uint8)
    compiled(fill)(pixels)
    assert list(pixels) == [7, 7, 7]
