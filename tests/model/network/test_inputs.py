"""What reaches the network from the loader's bytes."""

import pytest
import torch

from model.network.inputs import Colours, add_colour_noise, subtract_mean

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


def test_noise_shifts_a_whole_image_along_the_components_by_the_eigenvalue():
    torch.manual_seed(0)
    images = torch.zeros(20_000, 3, 1, 2)
    shifted = add_colour_noise(images, COLOURS, scale=0.1)
    assert torch.equal(shifted[..., 0], shifted[..., 1])
    deviations = shifted[:, :, 0, 0].std(dim=0)
    for found, deviation in zip(deviations.tolist(), COLOURS.deviations, strict=True):
        assert found == pytest.approx(0.1 * deviation**2 / 255, rel=0.03)


def test_images_of_a_batch_are_shifted_differently():
    shifted = add_colour_noise(torch.zeros(2, 3, 1, 1), COLOURS, scale=0.1)
    assert not torch.equal(shifted[0], shifted[1])
