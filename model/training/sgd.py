"""The update rule of [K12 §5]: v ← m·v − decay·rate·w − rate·gradient, then w ← w + v, on torch's own fused SGD."""

from collections import defaultdict

import torch
from torch import nn

from model.network.alexnet import AlexNet
from model.training.config import TrainConfig
from model.training.schedule import Rates, Shares


def make_sgd(network: AlexNet, config: TrainConfig) -> torch.optim.SGD:
    """Return the optimiser, with a group for the weights and one for the biases of each part; `set_rates` sets their rates."""
    parts: dict[tuple[str, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        parts[_part(name), name.endswith(".bias")].append(parameter)
    groups = [
        {"params": parameters, "part": part, "bias": bias, "weight_decay": config.bias_decay if bias else config.weight_decay}
        for (part, bias), parameters in parts.items()
    ]
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=True)


def set_rates(sgd: torch.optim.SGD, rates: Rates, shares: Shares) -> None:
    """Change the learning rates as in the paper's rule, in which the velocity keeps its size. Freeze a part whose rate is 0.

    torch stores velocity ÷ rate and multiplies by the current rate, so a lower rate would shrink earlier updates too; scaling
    the buffers undoes that.
    """
    for group in sgd.param_groups:
        rate = (rates.biases if group["bias"] else rates.weights) * shares._asdict()[group["part"]]
        for parameter in group["params"]:
            parameter.requires_grad_(rate > 0)
            buffer = sgd.state[parameter].get("momentum_buffer")
            if buffer is not None and rate > 0 and rate != group["lr"]:
                buffer.mul_(group["lr"] / rate)
        group["lr"] = rate or group["lr"]


def _part(name: str) -> str:
    """The field of `Shares` that applies to a parameter."""
    layer = name.partition(".")[0]
    return {"conv1": "conv1", "fc8": "last", "bottleneck": "last"}.get(layer, "others")
