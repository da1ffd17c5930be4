"""Features of the last hidden layer: the same bits in any batches."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from base.errors import InputError
from model.evaluation.predict import VIEWS_PER_PASS, cut, pass_sizes
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours, subtract_mean
from model.retrieval.embed import Embedder, embed, features_of, pixels, thumbnails

COLOURS = Colours(mean=(127, 127, 127), deviations=(10, 20, 60), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
PREPARE = partial(subtract_mean, colours=COLOURS)


class Other(nn.Module):
    """A network of another class, whose layer's output is changed in place by the next one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 5, stride=4)
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(4, 5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))

    def forward(self, images):
        return self.last(F.relu(self.first(images / 100), inplace=True).mean((2, 3)))


@pytest.fixture
def network():
    return AlexNet(NetworkConfig(num_classes=5, crop=64, width=1 / 12)).initialise(0)


def views(num_images):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_images, 1, 64, 64, 3), dtype=torch.uint8, generator=generator)


def embed_all(embedders, images, batch_size, at_once=1):
    """Embed images that arrive in batches of this size, as one shard."""
    batches = ((batch,) for batch in images.split(batch_size))
    passes = (part for (part,) in cut(batches, pass_sizes([len(images)], 1)))
    parts = list(embed(embedders, passes, at_once))
    return [torch.cat([part[n] for part in parts]) for n in range(len(embedders))]


def test_features_are_the_last_hidden_layer_without_dropout(network):
    images = views(3)
    [found] = embed_all([Embedder(features_of(network.train()), PREPARE)], images, 3)
    assert found.shape == (3, 2 * network.config.scaled(2048))
    assert found.dtype == torch.float32
    assert (found >= 0).all()
    assert (found > 0).any()
    with torch.inference_mode():
        logits = network.eval().fc8(found * 0.5)
        torch.testing.assert_close(logits, network(PREPARE(images[:, 0])), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", [None, "conv1.a"])
def test_neither_batches_nor_threads_change_a_bit(network, layer):
    images, embedders = views(130), [Embedder(features_of(network, layer), PREPARE)]
    whole = embed_all(embedders, images, 130)[0]
    for batch_size, at_once in ((1, 1), (7, 2), (64, 3)):
        assert torch.equal(embed_all(embedders, images, batch_size, at_once)[0], whole)


def test_several_networks_share_a_pass(network):
    images = views(VIEWS_PER_PASS + 1)
    other = Embedder(features_of(Other(), "last"), PREPARE)
    both = embed_all([Embedder(features_of(network), PREPARE), other], images, 9)
    assert torch.equal(both[1], embed_all([other], images, 9)[0])
    assert both[1].shape == (len(images), 5)


def test_the_next_layer_does_not_change_the_features_in_place():
    network, images = Other(), views(2)
    [found] = embed_all([Embedder(features_of(network, "first"), PREPARE)], images, 2)
    with torch.inference_mode():
        expected = network.first(PREPARE(images[:, 0]) / 100).flatten(1)
    torch.testing.assert_close(found, expected)
    assert (found < 0).any()


@pytest.mark.parametrize("layer", [None, "fifth"])
def test_a_network_without_the_layer_is_an_error(layer):
    with pytest.raises(InputError, match=f"Other has no layer {layer}; expected one of first, unused, last"):
        features_of(Other(), layer)


def test_a_layer_that_does_not_run_is_an_error():
    with pytest.raises(InputError, match="layer unused gave NoneType for 100 images"):
        embed_all([Embedder(features_of(Other(), "unused"), PREPARE)], views(2), 2)


def test_pixels_are_the_bytes_of_the_centre_view():
    images = views(5)
    found = torch.cat(list(pixels(images.split(2))))
    assert torch.equal(found, images.reshape(5, -1))


@pytest.mark.parametrize("side", [32, 64, 112])
def test_thumbnails_are_means_of_areas(side):
    views = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    found = thumbnails(views.reshape(2, -1)).reshape(2, 32, 32, 3)
    edges = np.arange(33) * side / 32
    overlap = np.clip(np.minimum(edges[1:, None], np.arange(1, side + 1)) - np.maximum(edges[:-1, None], np.arange(side)), 0, 1)
    expected = np.einsum("ih,nhwc,jw->nijc", overlap, views, overlap) / (side / 32) ** 2
    assert np.abs(found - expected).max() <= 0.51
