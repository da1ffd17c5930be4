"""Turn views into features, one vector per image: the same bits for any batches, threads and processes.

The worker that embeds a split calls this and writes one part per shard with `model.retrieval.vectors`. As in prediction, a
network only sees passes of one shape, each on one thread; the last one of a shard is filled up. [K12 §6.1]
[14] is Krizhevsky & Hinton, ESANN 2011.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import isqrt
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from base.errors import InputError
from model.evaluation.predict import VIEWS_PER_PASS
from model.network.alexnet import AlexNet

NUM_VIEWS = 1
"""[K12 §6.1] Features are of the centre view."""
THUMBNAIL_SIDE = 32
"""[14] Its auto-encoders read 32 × 32 × 3 raw pixels."""


class Embedder(NamedTuple):
    """How one network turns images into features."""

    features: Callable[[Tensor], Tensor]
    """Gives features (N, D) from what `prepare` gives; see `features_of`."""
    prepare: Callable[[Tensor], Tensor]
    """From uint8 (N, H, W, 3) to the input of the network, (N, 3, H, W)."""


class LayerOutput:
    """Gives the output of one layer of any network, flattened to (N, D)."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        self.network, self.layer = network, layer
        self.found = threading.local()
        network.get_submodule(layer).register_forward_hook(self._keep)

    def __call__(self, images: Tensor) -> Tensor:
        """Run the network and return what the layer gave.

        Raises:
            InputError: the layer did not run, or gave something other than a tensor with a row per image.
        """
        self.found.output = None
        self.network(images)
        output = self.found.output
        if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(images):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"layer {self.layer} gave {found} for {len(images):,} images; expected one row per image")
        return output

    def _keep(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        del layer, inputs
        # A copy: the next layer may change the tensor in place. Each thread has its own.
        self.found.output = output.flatten(1).clone() if isinstance(output, Tensor) and output.ndim > 1 else output


def features_of(network: nn.Module, layer: str | None = None) -> Callable[[Tensor], Tensor]:
    """Return what gives the features of a network: of ours fc7 after ReLU, of any other the output of the layer named.

    Raises:
        InputError: the network has no such layer, or none was named.
    """
    network.eval()
    if layer is None and isinstance(network, AlexNet):
        return network.features
    names = [name for name, _ in network.named_modules() if name]
    if layer is None or layer not in names:
        raise InputError(f"{type(network).__name__} has no layer {layer}; expected one of {', '.join(names[-20:])}")
    return LayerOutput(network, layer)


def embed(embedders: Sequence[Embedder], passes: Iterable[Tensor], at_once: int = 1) -> Iterator[list[Tensor]]:
    """Yield for each pass the features of every embedder (N, D) in float32.

    A pass is uint8 centre views (N, 1, H, W, 3), at most `VIEWS_PER_PASS` of them. `at_once` passes are computed in parallel;
    on a CPU the caller gives each operation one thread.
    """
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[list[Tensor]]] = deque()
        for views in passes:
            waiting.append(pool.submit(_one_pass, embedders, views[:, 0]))
            if len(waiting) > 2 * at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def pixels(passes: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield for each pass the centre views as vectors, uint8 (N, H · W · 3), before the mean is subtracted."""
    return (views[:, 0].flatten(1).cpu() for views in passes)


def thumbnails(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink centre views (N, H · W · 3) to `THUMBNAIL_SIDE`, by area: what the auto-encoder on raw pixels reads. [14]"""
    side = isqrt(pixels.shape[1] // 3)
    views = pixels.reshape(-1, side, side, 3)
    shrunk = [cv2.resize(view, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA) for view in views]
    return np.stack(shrunk).reshape(len(pixels), -1).astype(np.uint8)


def _one_pass(embedders: Sequence[Embedder], images: Tensor) -> list[Tensor]:
    filled = torch.cat((images, images.new_zeros(VIEWS_PER_PASS - len(images), *images.shape[1:])))
    with torch.inference_mode():  # it holds for one thread, this one
        return [one.features(one.prepare(filled))[: len(images)].float().cpu() for one in embedders]
