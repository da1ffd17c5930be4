"""Every layer and every gradient, of both recipes' networks, against a plain reference in float64."""

import pytest
import torch
from torch.nn import functional as F

from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.training.recipes import RECIPES

TOWERS = ("a", "b")
CPU = torch.device("cpu")


def across_channels(x, config):
    """[K12 §3.3] for the channels of one tower, kernel by kernel."""
    channels, reach = x.shape[1], config.lrn_size // 2
    near = [x[:, max(0, i - reach) : i + reach + 1].square().sum(dim=1) for i in range(channels)]
    return x / (config.lrn_k + config.lrn_alpha * torch.stack(near, dim=1)) ** 0.75


def across_places(x):
    """[CHM layers-145] for each map, place by place."""
    side = x.shape[2]
    total = torch.stack(
        [
            torch.stack(
                [x[:, :, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3].square().sum(dim=(2, 3)) for j in range(side)], -1
            )
            for i in range(side)
        ],
        dim=-2,
    )
    return x / (1 + 0.001 / 25 * total) ** 0.75


def reference(p, images, config):
    """Return the output of each layer before its ReLU, tower by tower, from parameters by name."""
    seen = {}

    def layer(name, inputs, **options):
        seen[name] = {
            t: F.conv2d(inputs[t], p[f"{name}.{t}.weight"], p[f"{name}.{t}.bias"], **options)
            if inputs[t].dim() == 4
            else inputs[t] @ p[f"{name}.{t}.weight"].T + p[f"{name}.{t}.bias"]
            for t in TOWERS
        }
        return seen[name]

    def each(function, halves):
        return {t: function(halves[t]) for t in TOWERS}

    def met(halves):
        return dict.fromkeys(TOWERS, torch.cat((halves["a"], halves["b"]), dim=1))

    def norm(x):
        return across_channels(x, config)

    def pool(x):
        return F.max_pool2d(x, 3, 2)

    x = layer("conv1", dict.fromkeys(TOWERS, F.pad(images, (0, 3, 0, 3))), stride=4)
    x = each(lambda h: F.relu(pool(norm(h))) if config.relu_after_pool1 else pool(norm(F.relu(h))), x)
    x = each(norm, each(F.relu, layer("conv2", x, padding=2)))
    x = each(pool, each(across_places, x) if config.spatial_norm else x)
    x = each(F.relu, layer("conv3", met(x), padding=1))
    x = each(F.relu, layer("conv4", x, padding=1))
    x = each(pool, each(F.relu, layer("conv5", x, padding=1)))
    if config.sixth_conv:
        x = each(F.relu, layer("conv6", met(x), padding=1))
    x = each(F.relu, layer("fc6", met(each(lambda h: h.flatten(1), x))))
    x = each(F.relu, layer("fc7", met(each(lambda h: h / 2, x))))
    x = each(lambda h: h / 2, x)
    if config.bottleneck:
        x = layer("bottleneck", met(x))
    seen["fc8"] = met(x)["a"] @ p["fc8.weight"].T + p["fc8.bias"]
    return seen


def halves(pieces):
    return [half.clone() for half in (pieces if len(pieces) == 2 else pieces[0].chunk(2, dim=1))]


def layers(network, images):
    """Return the outputs of the network's own layers, before ReLUs overwrite them."""
    seen = {}
    for name, module in network.named_children():
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update(
                {name: output.clone() if name == "fc8" else dict(zip(TOWERS, halves(output), strict=True))}
            )
        )
    network(images)
    return seen


@pytest.mark.parametrize("starred", [{}, {"sixth_conv": True, "bottleneck": 48}])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("one_piece", [False, True])
def test_every_layer_and_every_gradient_is_the_references(recipe, starred, one_piece):
    config = NetworkConfig(num_classes=7, crop=67, width=1 / 8, **starred, **RECIPES[recipe].network)
    network = AlexNet(config).initialise(3).double().eval().place(CPU, CPU, one_piece)
    torch.manual_seed(0)
    images = torch.randn(3, 3, 67, 67, dtype=torch.float64) * 60
    class_indices = torch.tensor([0, 6, 2])
    found, expected = layers(network, images), reference(dict(network.named_parameters()), images, config)
    assert set(found) == set(expected)
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")

    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(F.cross_entropy(network(images), class_indices), parameters)
    theirs = torch.autograd.grad(F.cross_entropy(expected["fc8"], class_indices), parameters)
    for name, found_one, expected_one in zip(names, gradients, theirs, strict=True):
        assert expected_one.abs().max() > 0, name
        torch.testing.assert_close(found_one, expected_one, rtol=1e-8, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
