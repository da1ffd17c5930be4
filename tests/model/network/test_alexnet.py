"""The two towers against [K12 §3.5] and against the same network written in one piece."""

from contextlib import ExitStack

import pytest
import torch
from pydantic import ValidationError
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from model.network.alexnet import AlexNet, TwoTowers, inputs_per_unit
from model.network.config import NetworkConfig
from model.network.inputs import Colours, colour_shifts, subtract_mean
from model.training.config import TrainConfig
from model.training.recipes import RECIPES

CPU = torch.device("cpu")
SMALL = NetworkConfig(num_classes=7, crop=64, width=1 / 8, dropout=0.5)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(scope="module")
def full():
    """The paper's network."""
    return AlexNet(NetworkConfig()).eval()


def test_the_full_network_has_the_papers_60_965_224_parameters(full):
    assert count(full) == 60_965_224


@pytest.mark.parametrize(
    ("layer", "tower", "last"),
    [
        ("conv1", (48, 55, 55), None),
        ("conv2", (128, 27, 27), None),
        ("conv3", (192, 13, 13), None),
        ("conv4", (192, 13, 13), None),
        ("conv5", (128, 13, 13), None),
        ("fc6", (2048,), None),
        ("fc7", (2048,), None),
        ("fc8", None, (1000,)),
    ],
)
def test_every_layer_has_the_papers_shape_in_each_tower(full, layer, tower, last):
    seen = []
    hook = full.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with hook, torch.inference_mode():
        full(torch.zeros(1, 3, 224, 224))
    (output,) = seen
    if tower:
        assert [tuple(half.shape[1:]) for half in output] == [tower, tower]
    else:
        assert tuple(output.shape[1:]) == last


def test_pooled_maps_have_the_papers_sizes(full):
    seen = {}
    with ExitStack() as hooks, torch.inference_mode():
        for name in ("conv2", "conv3", "fc6"):
            layer = full.get_submodule(name)
            hooks.enter_context(
                layer.register_forward_pre_hook(lambda _module, inputs, name=name: seen.update({name: inputs[0]}))
            )
        full(torch.zeros(1, 3, 224, 224))
    assert tuple(seen["conv2"][0].shape) == (1, 48, 27, 27)
    assert tuple(seen["conv3"][0].shape) == (1, 128, 13, 13)
    assert tuple(seen["fc6"][0].shape) == (1, 128 * 6 * 6)


@pytest.mark.parametrize("sixth_conv", [False, True])
@pytest.mark.parametrize(("crop", "width"), [(64, 1 / 8), (96, 1 / 4), (115, 1 / 24)])
def test_two_towers_compute_what_one_piece_does(crop, width, sixth_conv):
    config = NetworkConfig(num_classes=7, crop=crop, width=width, sixth_conv=sixth_conv)
    network = AlexNet(config).initialise(3).eval()
    images = torch.randn(5, 3, crop, crop) * 60
    towers, one_piece = (network.place(CPU, CPU, together)(images) for together in (False, True))
    torch.testing.assert_close(towers, one_piece, rtol=1e-4, atol=1e-4)


def test_towers_a_and_b_meet_only_where_the_paper_says():
    layers = {name: layer.meet for name, layer in AlexNet(SMALL).named_children() if isinstance(layer, TwoTowers)}
    assert layers == {
        "conv1": False,
        "conv2": False,
        "conv3": True,
        "conv4": False,
        "conv5": False,
        "fc6": True,
        "fc7": True,
    }


def test_the_sixth_convolution_adds_its_own_parameters_and_no_others(full):
    starred = AlexNet(NetworkConfig(sixth_conv=True))
    assert count(starred) - count(full) == 2 * (128 * 256 * 9 + 128)
    assert set(starred.state_dict()) - set(full.state_dict()) == {
        "conv6.a.weight",
        "conv6.a.bias",
        "conv6.b.weight",
        "conv6.b.bias",
    }


@pytest.fixture(scope="module")
def drawn():
    """At full size, with the sixth convolution, by each recipe."""
    config = NetworkConfig(sixth_conv=True)
    return {name: AlexNet(config).initialise(0, TrainConfig(**RECIPES[name].training).initial) for name in RECIPES}


@pytest.mark.parametrize(
    ("recipe", "middle", "last_bias"), [("paper", 0.01, 0.0), ("code2012", 0.03, 0.0), ("dexp", 0.03, -7.0)]
)
@pytest.mark.parametrize(
    ("name", "is_middle", "bias"),
    [
        ("conv1", False, 0.0),
        ("conv2", False, 1.0),
        ("conv3", True, 0.0),
        ("conv4", True, 1.0),
        ("conv5", True, 1.0),
        ("conv6", True, 1.0),
        ("fc6", False, 1.0),
        ("fc7", False, 1.0),
        ("fc8", False, None),
    ],
)
def test_initial_weights_have_the_sources_deviation_and_bias(drawn, recipe, middle, last_bias, name, is_middle, bias):
    layer = drawn[recipe].get_submodule(name)
    std, bias = middle if is_middle else 0.01, last_bias if bias is None else bias
    for half in (layer.a, layer.b) if isinstance(layer, TwoTowers) else (layer,):
        assert half.weight.std().item() == pytest.approx(std, rel=0.02)
        assert (half.bias == bias).all()


def test_smaller_networks_draw_wider_so_that_activations_keep_their_scale():
    narrow = AlexNet(NetworkConfig(num_classes=1000, width=1 / 4)).initialise(0)
    assert narrow.fc7.a.weight.std().item() == pytest.approx(0.01 * 2, rel=0.02)
    assert narrow.conv1.a.weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(("crop", "taps"), [(224, (16 / 6) ** 2), (96, 4), (64, 1)])
def test_a_window_across_the_edge_of_its_map_counts_only_the_part_inside(crop, taps):
    config = NetworkConfig(crop=crop)
    assert inputs_per_unit(config)["conv6"] == pytest.approx(256 * taps)


def test_the_same_seed_draws_the_same_network_and_another_draws_another():
    first, again, other = (AlexNet(SMALL).initialise(seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.a.weight"], other["conv1.a.weight"])
    assert not torch.equal(first["conv1.a.weight"], first["conv1.b.weight"])


@pytest.mark.parametrize("num_classes", [10_184, 21_841])
def test_very_many_classes_are_read_off_a_bottleneck_of_1024_a_tower(num_classes):
    with torch.device("meta"):
        network = AlexNet(NetworkConfig(num_classes=num_classes, sixth_conv=True, bottleneck=1024))
    assert tuple(network.bottleneck.a.weight.shape) == tuple(network.bottleneck.b.weight.shape) == (1024, 4096)
    assert tuple(network.fc8.weight.shape) == (num_classes, 2048)


def test_a_bottleneck_is_linear():
    network = AlexNet(NetworkConfig(num_classes=30, crop=64, width=1 / 8, bottleneck=64)).initialise(0).eval()
    images = torch.randn(3, 3, 64, 64) * 60
    hidden = network.features(images) * 0.5
    layer = network.bottleneck
    narrow = torch.cat((layer.a(hidden), layer.b(hidden)), dim=1)
    assert (narrow < 0).any()
    torch.testing.assert_close(network(images), network.fc8(narrow))


def test_dropout_zeroes_half_in_training_and_halves_in_testing():
    network = AlexNet(SMALL)
    ones = (torch.ones(1000, 64), torch.ones(1000, 64))
    trained = network.train()._drop_half(ones)[1]
    assert set(trained.unique().tolist()) == {0.0, 1.0}
    assert trained.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (network.eval()._drop_half(ones)[0] == 0.5).all()


class FromHost(TorchFunctionMode):
    """Records every call that makes a tensor on the device from values on the host."""

    MADE_THERE = (torch.arange, torch.full, torch.empty)

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        on_device = any(isinstance(value, torch.Tensor) and value.is_meta for value in tree_leaves((args, kwargs)))
        if isinstance(made, torch.Tensor) and made.is_meta and not on_device and func not in self.MADE_THERE:
            self.calls.append(func.__name__)
        return made


@pytest.mark.parametrize("one_piece", [True, False])
def test_after_the_first_step_nothing_is_copied_to_the_device_but_the_batch(one_piece):
    device = torch.device("meta")
    network = AlexNet(SMALL).place(device, device, one_piece).train()
    mean = (1, 2, 3 + one_piece)  # not yet on the device in either case
    colours = Colours(mean=mean, deviations=(3, 2, 1), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
    images, factors = torch.empty(4, 64, 64, 3, dtype=torch.uint8, device=device), torch.empty(4, 3, device=device)
    copied = []
    for _ in range(2):
        with FromHost() as host:
            shifts = colour_shifts(colours, factors, "eigenvalues")[:, :, None, None]
            network(subtract_mean(images, colours) + shifts).sum().backward()
        copied.append(host.calls)
    assert copied[0]
    assert not copied[1]


def test_features_are_the_last_hidden_layer_after_relu():
    network = AlexNet(SMALL).initialise(0).eval()
    images = torch.randn(3, 3, 64, 64) * 60
    features = network.features(images)
    assert features.shape == (3, 2 * 256)
    assert (features >= 0).all()
    torch.testing.assert_close(network.fc8(features * 0.5), network(images))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0.01}, "leaves fewer than two of conv1's 48 kernels"),
        ({"width": 1.5}, "less than or equal to 1"),
        ({"crop": 63}, "greater than or equal to 64"),
        ({"num_classes": 1}, "greater than 1"),
        ({"depth": 9}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_networks_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        NetworkConfig(**values)


@pytest.mark.parametrize(("crop", "side"), [(224, 6), (64, 1), (96, 2), (112, 2), (128, 3)])
def test_the_last_pooling_layer_has_the_side_that_the_config_says(crop, side):
    assert NetworkConfig(crop=crop).pooled == side
