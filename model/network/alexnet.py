"""The network of [K12 §3.5]: two towers that meet at conv3, fc6, fc7 and fc8.

Small pieces first, the network last. A layer holds its towers' halves as `a` and `b`, so one set of parameter names serves the
towers one after the other, one on each of two devices, and both in one piece.
"""

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.config import Initial, NetworkConfig
from model.network.response_norm import local_response_norm, spatial_response_norm

Pieces = tuple[Tensor, ...]
"""The outputs of tower a and tower b, each on its device; or one piece with those of both, the channels of a first."""

MIDDLE = {"conv3", "conv4", "conv5", "conv6"}
"""Layers with their own standard deviation. [CHM layers-145]"""

BIASED = {"conv2", "conv4", "conv5", "conv6", "fc6", "fc7"}
"""Layers whose ReLUs get positive inputs from the start. [K12 §5]"""


class TwoTowers(nn.Module):
    """One layer of both towers. Each half reads its own tower, or both in a layer in which the towers meet."""

    def __init__(self, half: Callable[[], nn.Module], meet: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.meet = half(), half(), meet

    def forward(self, x: Pieces) -> Pieces:
        """Return the outputs of tower a and tower b, in as many pieces as the input."""
        if len(x) == 1:
            return (self._in_one_piece(x[0]),)
        if not self.meet:
            return self.a(x[0]), self.b(x[1])
        both = torch.cat((x[0], x[1].to(x[0].device)), dim=1)
        return self.a(both), self.b(both.to(x[1].device))

    def _in_one_piece(self, x: Tensor) -> Tensor:
        if not isinstance(self.a, nn.Conv2d):
            return torch.cat((self.a(x), self.b(x)), dim=1)  # joining the weights would cost more than it gains
        weight, bias = (torch.cat((self.a.get_parameter(name), self.b.get_parameter(name))) for name in ("weight", "bias"))
        groups = x.shape[1] // self.a.in_channels  # 1 if both halves read everything
        return F.conv2d(x, weight, bias, self.a.stride, self.a.padding, groups=groups)


class AlexNet(nn.Module):
    """Logits of `config.num_classes` classes from mean-subtracted images (N, 3, crop, crop)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.one_piece = False
        k = config.scaled
        self.conv1 = TwoTowers(lambda: nn.Conv2d(3, k(48), 11, stride=4))
        self.conv2 = TwoTowers(lambda: nn.Conv2d(k(48), k(128), 5, padding=2))
        self.conv3 = TwoTowers(lambda: nn.Conv2d(2 * k(128), k(192), 3, padding=1), meet=True)
        self.conv4 = TwoTowers(lambda: nn.Conv2d(k(192), k(192), 3, padding=1))
        self.conv5 = TwoTowers(lambda: nn.Conv2d(k(192), k(128), 3, padding=1))
        if config.sixth_conv:
            self.conv6 = TwoTowers(lambda: nn.Conv2d(2 * k(128), k(128), 3, padding=1), meet=True)
        self.fc6 = TwoTowers(lambda: nn.Linear(2 * k(128) * config.pooled**2, k(2048)), meet=True)
        self.fc7 = TwoTowers(lambda: nn.Linear(2 * k(2048), k(2048)), meet=True)
        if config.bottleneck is not None:
            self.bottleneck = TwoTowers(lambda: nn.Linear(2 * k(2048), config.narrow), meet=True)
        self.fc8 = nn.Linear(2 * config.narrow, config.num_classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stub lacks this form

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, num_classes), on tower a's device."""
        x = self._drop_half(self._last_hidden(images))
        if self.config.bottleneck is not None:
            x = self.bottleneck(x)
        return self.fc8(_joined(x))  # type: ignore[no-any-return]  # modules

    def features(self, images: Tensor) -> Tensor:
        """Return the last hidden layer (N, 4096 · width) after ReLU, before dropout, on tower a's device. [K12 §6.1]"""
        return _joined(self._last_hidden(images))

    def place(self, device_a: torch.device, device_b: torch.device, one_piece: bool = False) -> "AlexNet":
        """Move each tower to its device, and the last layer to that of tower a; return the network.

        On one device the towers run one after the other, or with `one_piece` side by side in each operation.
        """
        self.one_piece = one_piece
        for layer in self.children():
            if isinstance(layer, TwoTowers):
                layer.a.to(device_a)
                layer.b.to(device_b)
            else:
                layer.to(device_a)
        return self

    def initialise(self, seed: int, initial: Initial = Initial()) -> "AlexNet":  # noqa: B008  # frozen
        """Draw all weights from `seed`; return the network.

        (ours) In a smaller network a unit has fewer inputs; the deviation is multiplied by the square root of the ratio, so
        that the activations start at the scale that they have at full size.
        """
        generator = torch.Generator().manual_seed(seed)
        inputs, full_inputs = inputs_per_unit(self.config), inputs_per_unit(NetworkConfig())
        for name, layer in self.named_children():
            std = initial.middle_std if name in MIDDLE else initial.std
            bias = initial.bias if name in BIASED else initial.last_bias if name == "fc8" else 0.0
            for half in (layer.a, layer.b) if isinstance(layer, TwoTowers) else (layer,):
                _draw(half, std * sqrt(full_inputs[name] / inputs[name]), bias, generator)
        return self

    def _last_hidden(self, images: Tensor) -> Pieces:
        """Return fc7 after ReLU."""
        x = F.pad(images, (0, 3, 0, 3))  # conv1's last window runs 3 px past the edge: 55 × 55 from 224 [CHM layers-145]
        x = x.contiguous(memory_format=torch.channels_last)
        towers = (self.conv1.a,) if self.one_piece else (self.conv1.a, self.conv1.b)
        pieces = self.conv1(tuple(x.to(_device(tower)) for tower in towers))  # (N, 48, 55, 55) a tower
        if self.config.relu_after_pool1:
            pieces = _relu(_pool(self._normalise(pieces)))  # (N, 48, 27, 27)
        else:
            pieces = _pool(self._normalise(_relu(pieces)))
        pieces = self._normalise(_relu(self.conv2(pieces)))  # (N, 128, 27, 27)
        if self.config.spatial_norm:
            pieces = tuple(map(spatial_response_norm, pieces))
        pieces = _pool(pieces)  # (N, 128, 13, 13)
        pieces = _relu(self.conv3(pieces))  # (N, 192, 13, 13)
        pieces = _relu(self.conv4(pieces))  # (N, 192, 13, 13)
        pieces = _pool(_relu(self.conv5(pieces)))  # (N, 128, 6, 6)
        if self.config.sixth_conv:
            pieces = _relu(self.conv6(pieces))  # (N, 128, 6, 6)
        pieces = tuple(piece.flatten(1) for piece in pieces)  # (N, 4608)
        pieces = self._drop_half(_relu(self.fc6(pieces)))  # (N, 2048)
        return _relu(self.fc7(pieces))  # (N, 2048)

    def _normalise(self, pieces: Pieces) -> Pieces:
        size, alpha, k = self.config.lrn_size, self.config.lrn_alpha, self.config.lrn_k
        towers = 2 // len(pieces)
        return tuple(local_response_norm(piece, size, alpha, k, towers) for piece in pieces)

    def _drop_half(self, pieces: Pieces) -> Pieces:
        """Set half of the outputs to zero in training, halve all of them in testing. [K12 §4.2]

        torch doubles them in training instead; the factor undoes that, so that weights have the paper's scale.
        """
        keep = 1 - self.config.dropout
        return tuple(F.dropout(piece, self.config.dropout, self.training) * keep for piece in pieces)


def _relu(pieces: Pieces) -> Pieces:
    return tuple(F.relu(piece, inplace=True) for piece in pieces)


def _pool(pieces: Pieces) -> Pieces:
    """Pool with overlap: windows of 3 × 3, 2 apart. [K12 §3.4]"""
    return tuple(F.max_pool2d(piece, 3, 2) for piece in pieces)


def _joined(pieces: Pieces) -> Tensor:
    """Return the units of both towers, on the device of tower a."""
    return torch.cat([piece.to(pieces[0].device) for piece in pieces], dim=1)


def _device(layer: nn.Module) -> torch.device:
    return next(layer.parameters()).device


def inputs_per_unit(config: NetworkConfig) -> dict[str, float]:
    """Return the mean number of values that a unit of each layer sums; at the edge of a map part of its window is padding."""
    k = config.scaled
    _, second, third, last = config.map_sides
    return {
        "conv1": 3 * 11 * 11,
        "conv2": k(48) * _mean_taps(second, 5, 2),
        "conv3": 2 * k(128) * _mean_taps(third, 3, 1),
        "conv4": k(192) * _mean_taps(third, 3, 1),
        "conv5": k(192) * _mean_taps(third, 3, 1),
        "conv6": 2 * k(128) * _mean_taps(last, 3, 1),
        "fc6": 2 * k(128) * last**2,
        "fc7": 2 * k(2048),
        "bottleneck": 2 * k(2048),
        "fc8": 2 * config.narrow,
    }


def _mean_taps(side: int, kernel: int, padding: int) -> float:
    """Return how many of the kernel² places of a window are inside a square map, on average over the map."""
    on_map = sum(0 <= place + tap - padding < side for place in range(side) for tap in range(kernel))
    return (on_map / side) ** 2


def _draw(layer: nn.Module, std: float, bias: float, generator: torch.Generator) -> None:
    weight, offset = layer.get_parameter("weight"), layer.get_parameter("bias")
    with torch.no_grad():
        weight.copy_(torch.empty(weight.shape).normal_(0, std, generator=generator))
        offset.fill_(bias)
