"""The optimiser against the paper's update rule, by hand in float64."""

import pytest
import torch

from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.training.config import TrainConfig
from model.training.recipes import RECIPES
from model.training.schedule import Rates, Shares
from model.training.sgd import make_sgd, set_rates

WHOLE = Shares(1, 1, 1)


def small(**changes):
    return AlexNet(NetworkConfig(num_classes=3, crop=64, width=1 / 24, **changes)).initialise(0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_step_is_the_papers_also_when_the_rates_drop(recipe):
    config = TrainConfig(**RECIPES[recipe].training)
    network = small()
    weights = {name: value.detach().double().clone() for name, value in network.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}
    sgd = make_sgd(network, config)
    generator = torch.Generator().manual_seed(0)
    for rates in (Rates(0.01, 0.02), Rates(0.01, 0.02), Rates(0.001, 0.02), Rates(0.001, 0.002), Rates(0.0001, 0.002)):
        set_rates(sgd, rates, WHOLE)
        for name, parameter in network.named_parameters():
            bias = name.endswith(".bias")
            rate, decay = (rates.biases, config.bias_decay) if bias else (rates.weights, 0.0005)
            # Autograd hands gradients over in the parameter's own memory layout; the fused kernel relies on it.
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))
            # [K12 §5] v ← .9 v − .0005 · rate · w − rate · gradient; w ← w + v
            velocity[name] = 0.9 * velocity[name] - decay * rate * weights[name] - rate * parameter.grad.double()
            weights[name] = weights[name] + velocity[name]
        sgd.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), weights[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("conv1.a.weight", 0.0001),
        ("conv5.b.bias", 0.002),
        ("fc7.a.weight", 0.001),
        ("bottleneck.b.weight", 0.01),
        ("fc8.bias", 0.02),
    ],
)
def test_each_part_learns_at_its_share(name, rate):
    network = small(bottleneck=24)
    sgd = make_sgd(network, TrainConfig())
    set_rates(sgd, Rates(0.01, 0.02), Shares(conv1=0.01, last=1.0, others=0.1))
    wanted = network.get_parameter(name)
    rates = [group["lr"] for group in sgd.param_groups for parameter in group["params"] if parameter is wanted]
    assert rates == [pytest.approx(rate)]


def test_a_frozen_part_stays_as_it_is_while_the_others_learn():
    network, config = small(), TrainConfig()
    sgd = make_sgd(network, config)
    images = torch.randn(2, 3, 64, 64) * 60
    set_rates(sgd, Rates(0.01, 0.01), WHOLE)
    network(images).sum().backward()
    sgd.step()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    set_rates(sgd, Rates(0.01, 0.01), Shares(conv1=0.0, last=1.0, others=1.0))
    sgd.zero_grad()
    network(images).sum().backward()
    sgd.step()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("conv1."), name


@pytest.mark.parametrize("bottleneck", [None, 24])
def test_every_parameter_learns_exactly_once(bottleneck):
    network = small(bottleneck=bottleneck)
    groups = make_sgd(network, TrainConfig()).param_groups
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in network.parameters())
