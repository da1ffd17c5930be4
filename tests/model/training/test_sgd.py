"""The optimiser against the paper's update rule, by hand in float64."""

import pytest
import torch

from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.training.config import TrainConfig
from model.training.sgd import make_sgd, set_rate

CONFIG = TrainConfig()


def small():
    return AlexNet(NetworkConfig(num_classes=3, crop=64, width=1 / 24)).initialise(0)


def test_every_step_is_the_papers_also_when_the_rate_drops():
    network = small()
    weights = {name: value.detach().double().clone() for name, value in network.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}
    sgd = make_sgd(network, CONFIG, fine_tune=False)
    generator = torch.Generator().manual_seed(0)
    for rate in (0.01, 0.01, 0.001, 0.001, 0.0001):
        set_rate(sgd, rate)
        for name, parameter in network.named_parameters():
            # Autograd hands gradients over in the parameter's own memory layout; the fused kernel relies on it.
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))
            # [K12 §5] v ← .9 v − .0005 · rate · w − rate · gradient; w ← w + v
            velocity[name] = 0.9 * velocity[name] - 0.0005 * rate * weights[name] - rate * parameter.grad.double()
            weights[name] = weights[name] + velocity[name]
        sgd.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), weights[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "share"), [("conv1.a.weight", 0.01), ("conv5.b.bias", 0.1), ("fc7.a.weight", 0.1), ("fc8.bias", 1.0)]
)
def test_fine_tuning_slows_copied_layers(name, share):
    network = small()
    sgd = make_sgd(network, CONFIG, fine_tune=True)
    set_rate(sgd, 0.01)
    wanted = network.get_parameter(name)
    rates = [group["lr"] for group in sgd.param_groups for parameter in group["params"] if parameter is wanted]
    assert rates == [pytest.approx(0.01 * share)]


def test_every_parameter_learns_exactly_once():
    network = small()
    for fine_tune in (False, True):
        groups = make_sgd(network, CONFIG, fine_tune).param_groups
        assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in network.parameters())
