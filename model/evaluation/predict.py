"""Views in, one row of probabilities an image out: the same bits whatever the batches, the threads and the processes.

Called by `tasks.workers.predict`, for several networks at once: the images are decoded one time for all of them.

A network's last bits hang on the shape of what it is given and on how many threads share an operation. So it only ever sees
passes of one shape, filled up where images are lacking, each on one thread; several passes run side by side.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor, nn

VIEWS_PER_PASS = 100
"""(ours) Ten images in ten views, a hundred in one: shards of a thousand divide evenly, and larger passes are not faster."""


class Member(NamedTuple):
    """A network and how it is fed."""

    network: nn.Module
    """Gives logits (N, classes)."""
    prepare: Callable[[Tensor], Tensor]
    """From uint8 (N, H, W, 3) to what the network reads, (N, 3, H, W)."""
    columns: Tensor | None = None
    """Which of its outputs belongs to each class index, where they are in another order."""


def pass_sizes(shard_sizes: Iterable[int], num_views: int) -> list[int]:
    """Return how many images go into each pass, so that none reaches over the end of a shard."""
    most = VIEWS_PER_PASS // num_views
    return [min(most, size - start) for size in shard_sizes for start in range(0, size, most)]


def cut(batches: Iterable[tuple[Tensor, Tensor]], sizes: Iterable[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut a stream of batches anew, into these sizes.

    Raises:
        RuntimeError: the stream holds more.
    """
    stream = iter(batches)
    images, class_indices = next(stream)
    for size in sizes:
        while len(images) < size:
            more, more_indices = next(stream)
            images, class_indices = torch.cat((images, more)), torch.cat((class_indices, more_indices))
        yield images[:size], class_indices[:size]
        images, class_indices = images[size:], class_indices[size:]
    if len(images) or next(stream, None) is not None:
        raise RuntimeError("the loader gave more images than its shards are to hold")


def predict(members: Sequence[Member], passes: Iterable[Tensor], at_once: int = 1) -> Iterator[list[Tensor]]:
    """Yield for each pass every member's probabilities (N, classes) in float32, averaged over the views.

    A pass is uint8 views (N, views, H, W, 3), at most `VIEWS_PER_PASS` of them. Softmax outputs are averaged, not logits.
    [K12 §4.1] `at_once` passes are computed at the same time; on a CPU the caller gives each operation one thread.
    """
    for member in members:
        member.network.eval()
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[list[Tensor]]] = deque()
        for views in passes:
            waiting.append(pool.submit(_one_pass, members, views))
            if len(waiting) > 2 * at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _one_pass(members: Sequence[Member], views: Tensor) -> list[Tensor]:
    num_images, num_views = views.shape[:2]
    flat = views.flatten(0, 1)
    filled = torch.cat((flat, flat.new_zeros(VIEWS_PER_PASS // num_views * num_views - len(flat), *flat.shape[1:])))
    with torch.inference_mode():  # of this thread
        return [_averaged(member, filled, num_views)[:num_images].cpu() for member in members]


def _averaged(member: Member, views: Tensor, num_views: int) -> Tensor:
    logits: Tensor = member.network(member.prepare(views))
    probs = logits.float().softmax(dim=1).view(-1, num_views, logits.shape[1]).mean(dim=1)
    return probs if member.columns is None else probs[:, member.columns]
