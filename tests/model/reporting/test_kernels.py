"""Kernels as pictures."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from model.reporting.kernels import PIXELS_PER_WEIGHT, draw_kernels, kernel_sheet, png_of


@pytest.fixture
def towers():
    generator = np.random.default_rng(0)
    return tuple(generator.normal(size=(2, 20, 3, 11, 11)))


def test_sixteen_kernels_fill_a_row_and_each_tower_starts_one_of_its_own(towers):
    sheet = kernel_sheet(towers)
    assert sheet.shape == (4 * 12 - 1, 16 * 12 - 1, 3)
    assert (sheet[12:23, 4 * 12 :] == 255).all()  # the rest of tower a's second row
    assert not (sheet[24:35, :11] == 255).all()


def test_full_size_is_the_layout_of_the_paper():
    sheet = kernel_sheet([np.ones((48, 3, 11, 11))] * 2)
    assert sheet.shape == (6 * 12 - 1, 16 * 12 - 1, 3)


def test_one_scale_for_both_towers_and_zero_is_mid_grey():
    a, b = np.zeros((2, 12, 3, 11, 11))
    a[0, :, 0, 0], b[0, :, 0, 0], b[1, :, 0, 0] = 1, 4, -4
    sheet = kernel_sheet((a, b))
    assert sheet[0, 0].tolist() == [159] * 3  # a quarter of the way up
    assert sheet[12, 0].tolist() == [255] * 3
    assert sheet[12, 12].tolist() == [0] * 3
    assert sheet[5, 5].tolist() == [128] * 3


def test_exchanging_the_towers_exchanges_their_rows_only(towers):
    a, b = np.split(np.pad(kernel_sheet(towers), ((0, 1), (0, 0), (0, 0)), constant_values=255), 2)
    exchanged = np.pad(kernel_sheet(towers[::-1]), ((0, 1), (0, 0), (0, 0)), constant_values=255)
    assert (np.concatenate((b, a)) == exchanged).all()


def test_channels_are_red_green_and_blue():
    red = np.zeros((1, 3, 11, 11))
    red[0, 0] = 1
    assert kernel_sheet((red, red))[0, 0].tolist() == [255, 128, 128]


def test_the_png_shows_each_weight_as_one_square(towers, tmp_path):
    draw_kernels(towers, tmp_path / "kernels.png")
    shown = np.asarray(Image.open(tmp_path / "kernels.png").convert("RGB"))
    enlarged = kernel_sheet(towers).repeat(PIXELS_PER_WEIGHT, 0).repeat(PIXELS_PER_WEIGHT, 1)
    assert shown.shape == enlarged.shape
    assert np.abs(shown.astype(int) - enlarged).max() <= 1


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_the_vector_formats_hold_no_image(kind, towers, tmp_path):
    draw_kernels(towers, tmp_path / f"kernels.{kind}")
    content = (tmp_path / f"kernels.{kind}").read_bytes()
    assert not re.search(rb"<image|/Subtype */Image", content)
    assert len(content) > 10_000


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_kernels_give_the_same_bytes(kind, towers, tmp_path):
    for name in ("one", "two"):
        draw_kernels(towers, tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()


def test_kernels_of_zeros_are_grey():
    assert (kernel_sheet([np.zeros((12, 3, 11, 11))] * 2)[:11, :11] == 128).all()


def test_the_small_png_holds_the_sheet(towers):
    sheet = kernel_sheet(towers)
    assert (np.asarray(Image.open(io.BytesIO(png_of(sheet)))) == sheet).all()
