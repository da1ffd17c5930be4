"""The plain network against ours: the same logits from the same bytes, for every variant."""

import pytest
import torch

from model.export import alexnet as plain
from model.export.plain import plain_sizes, plain_state
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours, subtract_mean

COLOURS = Colours(mean=(120.5, 110.25, 100.1), deviations=(1, 1, 1), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
SMALL = {"num_classes": 7, "crop": 64, "width": 1 / 8, "lrn_alpha": 1e-2}
"""With an alpha at which a window that crossed from one tower to the other would show."""


def both(changes, mean_image=None):
    """Return our network and the plain one, and what the colours of their inputs are."""
    config = NetworkConfig(**{**SMALL, **changes})
    network, colours = AlexNet(config).initialise(0).eval(), COLOURS.model_copy(update={"mean_image": mean_image})
    copy = plain.AlexNet(**plain_sizes(config, colours))
    copy.load_state_dict(plain_state(network, colours))
    return network, copy.eval(), colours


def answers(network, copy, colours):
    images = torch.randint(
        0, 256, (3, *[network.config.crop] * 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    with torch.inference_mode():
        return network(subtract_mean(images, colours)), copy(images.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sixth_conv": True},
        {"bottleneck": 256},
        {"relu_after_pool1": True, "spatial_norm": True},
        {"lrn_size": 4, "lrn_k": 1.0},
        {"dropout": 0.3},
        {"dropout": 0.0, "num_classes": 2},
        {"width": 1 / 24},
        {"width": 0.13, "crop": 71},
        {"width": 0.25, "crop": 112, "num_classes": 300, "sixth_conv": True, "bottleneck": 64, "spatial_norm": True},
    ],
)
def test_every_variant_gives_the_same_logits(changes):
    ours, copied = answers(*both(changes))
    assert ours.std() > 0.05
    torch.testing.assert_close(copied, ours, rtol=0, atol=2e-6)


def test_a_mean_image_is_subtracted_pixel_by_pixel():
    mean_image = 255 * torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(2))
    ours, copied = answers(*both({}, mean_image))
    torch.testing.assert_close(copied, ours, rtol=0, atol=2e-6)
    assert not torch.allclose(ours, answers(*both({}))[0], atol=1e-3)


def test_one_window_over_both_towers_or_an_alpha_divided_by_the_window_would_show(monkeypatch):
    network, copy, colours = both({})
    size, alpha, k = copy.lrn
    for wrong in (
        lambda self, x: torch.nn.functional.local_response_norm(x, size, alpha * size, 0.75, k),
        lambda self, x: torch.nn.functional.local_response_norm(x.reshape(6, -1, *x.shape[2:]), size, alpha, 0.75, k).reshape(
            x.shape
        ),
    ):
        monkeypatch.setattr(plain.AlexNet, "normalise", wrong)
        ours, copied = answers(network, copy, colours)
        assert (ours - copied).abs().max() > 1e-4  # fifty times what is allowed


def test_the_paper_s_network_has_sixty_million_parameters():
    with torch.device("meta"):
        copy = plain.AlexNet(**plain_sizes(NetworkConfig(), COLOURS))
    assert sum(parameter.numel() for parameter in copy.parameters()) == 60_965_224
