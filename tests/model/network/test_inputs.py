"""The input of the network, from the bytes of the loader."""

import pytest
import torch

from model.network.inputs import Colours, colour_shifts, subtract_mean

COLOURS = Colours(
    mean=(100.0, 110.0, 120.0), deviations=(10.0, 20.0, 100.0), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=3
)


def test_each_channel_loses_its_own_mean_and_moves_to_the_front():
    images = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    images[..., 1] = 111
    found = subtract_mean(images, COLOURS)
    assert found.shape == (2, 3, 4, 5)
    assert found.dtype == torch.float32
    assert found[0, :, 0, 0].tolist() == [-100.0, 1.0, -120.0]
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_mean_image_is_subtracted_pixel_by_pixel():
    image = torch.rand(4, 5, 3) * 255
    images = torch.randint(256, (2, 4, 5, 3), dtype=torch.uint8)
    found = subtract_mean(images, COLOURS.model_copy(update={"mean_image": image}))
    torch.testing.assert_close(found, (images - image).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("along", "scales"), [("eigenvalues", (100 / 255, 400 / 255, 10_000 / 255)), ("deviations", (10, 20, 100))]
)
def test_a_factor_shifts_along_its_component_by_the_eigenvalue_or_by_its_root(along, scales):
    turned = COLOURS.model_copy(update={"components": ((0.6, 0.8, 0), (-0.8, 0.6, 0), (0, 0, 1))})
    shifts = colour_shifts(turned, torch.eye(3) * 0.1, along)
    expected = torch.tensor(turned.components) * 0.1 * torch.tensor(scales)[:, None]
    torch.testing.assert_close(shifts, expected)
