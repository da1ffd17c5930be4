"""Views in, one row of probabilities an image out.

Called by `tasks.workers.predict`, for several networks at once: the images are decoded one time for all of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.network.alexnet import AlexNet
from model.network.inputs import Colours, subtract_mean


class Member(NamedTuple):
    """A network with the colours it was trained on."""

    network: AlexNet
    colours: Colours


def predict(members: Sequence[Member], batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Yield for each batch every member's probabilities (N, classes), averaged over the views, and the class indices (N,).

    Batches are uint8 views (N, views, H, W, 3). Softmax outputs are averaged, not logits. [K12 §4.1]
    """
    for network, _ in members:
        network.eval()
    with torch.inference_mode():
        for views, class_indices in batches:
            num_images, num_views = views.shape[:2]
            flat = views.flatten(0, 1)
            probs = [network(subtract_mean(flat, colours)).softmax(dim=1) for network, colours in members]
            yield [member.view(num_images, num_views, -1).mean(dim=1).cpu() for member in probs], class_indices.cpu()
