"""The update rule of [K12 §5]: v ← m·v − decay·rate·w − rate·gradient, then w ← w + v, on torch's own fused SGD."""

from collections import defaultdict

import torch
from torch import nn

from model.network.alexnet import AlexNet
from model.training.config import TrainConfig


def make_sgd(network: AlexNet, config: TrainConfig, fine_tune: bool) -> torch.optim.SGD:
    """Return the optimiser, its rate still to be set; when fine-tuning, copied layers learn more slowly."""
    by_share: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        by_share[_share(name, config) if fine_tune else 1.0].append(parameter)
    groups = [{"params": parameters, "share": share} for share, parameters in by_share.items()]
    return torch.optim.SGD(
        groups, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )


def set_rate(sgd: torch.optim.SGD, rate: float) -> None:
    """Change the learning rate as the paper's rule would: the velocity keeps its size.

    torch keeps velocity ÷ rate and multiplies by the rate of the day, so that a drop would shrink the past along with the
    present; the buffers are scaled to undo that.
    """
    for group in sgd.param_groups:
        new = rate * group["share"]
        for parameter in group["params"]:
            buffer = sgd.state[parameter].get("momentum_buffer")
            if buffer is not None and new != group["lr"]:
                buffer.mul_(group["lr"] / new)
        group["lr"] = new


def _share(name: str, config: TrainConfig) -> float:
    """The share of the learning rate for a parameter of a network copied from other weights, all but fc8."""
    if name.startswith("fc8."):
        return 1.0
    return config.copied_conv1_rate if name.startswith("conv1.") else config.copied_rate
