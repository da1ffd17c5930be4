"""A network of this project as the plain one of `model.export.alexnet`: its sizes, and its parameters under their names.

Called by `tasks.workers.export`.
"""

from typing import Any

import torch
from torch import Tensor

from model.network.alexnet import AlexNet, TwoTowers
from model.network.config import NetworkConfig
from model.network.inputs import Colours


def plain_sizes(config: NetworkConfig, colours: Colours) -> dict[str, Any]:
    """Return the arguments of `model.export.alexnet.AlexNet`, as JSON."""
    same = ("num_classes", "crop", "sixth_conv", "dropout", "lrn_k", "relu_after_pool1", "spatial_norm")
    return {
        **{name: getattr(config, name) for name in same},
        "channels": [2 * config.scaled(kernels) for kernels in (48, 128, 192, 192, 128)],
        "units": 2 * config.scaled(2048),
        "bottleneck": None if config.bottleneck is None else 2 * config.narrow,
        "lrn_size": 2 * (config.lrn_size // 2) + 1,  # our windows have as many neighbours on either side; torch's may not
        "lrn_alpha": config.lrn_alpha,
        "mean_image": colours.mean_image is not None,
    }


def plain_state(network: AlexNet, colours: Colours) -> dict[str, Tensor]:
    """Return the state dict of `model.export.alexnet.AlexNet`.

    The units of tower a come first, then those of tower b. torch's dropout does not halve the outputs in testing, so the layers
    after it are halved instead: exactly, since one half is a power of two. [K12 §4.2]
    """
    state: dict[str, Tensor] = {}
    for name, layer in network.named_children():
        halves = (layer.a, layer.b) if isinstance(layer, TwoTowers) else (layer,)
        for kind in ("weight", "bias"):
            state[f"{name}.{kind}"] = torch.cat([half.get_parameter(kind).detach().cpu() for half in halves])
    for name in ("fc7", "fc8" if network.config.bottleneck is None else "bottleneck"):
        state[f"{name}.weight"] *= 1 - network.config.dropout
    mean = torch.tensor(colours.mean)[:, None, None] if colours.mean_image is None else colours.mean_image.permute(2, 0, 1)
    return {name: value.contiguous() for name, value in {**state, "mean": mean.float()}.items()}
