"""Turn views into one row of probabilities per image: the same bits for any batches, threads and processes.

`tasks.workers.predict` calls this for several networks at once, so that the images are decoded only once.

The last bits of a network's output depend on the shape of its input and on the number of threads that share an operation. So
every network only sees passes of one shape, each on one thread; the last one is filled up. Several passes run in parallel.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

VIEWS_PER_PASS = 100
"""(ours) Ten images in ten views, or a hundred in one: shards of a thousand divide evenly, and larger passes are not faster."""


NO_OUTPUT = -torch.finfo(torch.float32).tiny
"""(ours) The probability of a class without an output: ranked behind an output whose probability has become zero."""


class Predictor(NamedTuple):
    """A network and how its inputs and outputs are converted."""

    network: nn.Module
    """Gives logits (N, classes)."""
    prepare: Callable[[Tensor], Tensor]
    """From uint8 (N, H, W, 3) to the input of the network, (N, 3, H, W)."""
    columns: Tensor | None = None
    """The output of each class index, the number of outputs for a class without one; None if the order is the same."""


def pass_sizes(shard_sizes: Iterable[int], num_views: int) -> list[int]:
    """Return how many images go into each pass; no pass crosses the end of a shard."""
    most = VIEWS_PER_PASS // num_views
    return [min(most, size - start) for size in shard_sizes for start in range(0, size, most)]


def cut(batches: Iterable[tuple[Tensor, ...]], sizes: Iterable[int]) -> Iterator[tuple[Tensor, ...]]:
    """Yield the images of a stream of batches, and the tensors that come with them, in batches of these sizes.

    Raises:
        RuntimeError: the stream holds more.
    """
    stream = iter(batches)
    rest = next(stream)
    for size in sizes:
        while len(rest[0]) < size:
            rest = tuple(torch.cat(parts) for parts in zip(rest, next(stream), strict=True))
        yield tuple(part[:size] for part in rest)
        rest = tuple(part[size:] for part in rest)
    if len(rest[0]) or next(stream, None) is not None:
        raise RuntimeError("the loader gave more images than its shards should hold")


def predict(predictors: Sequence[Predictor], passes: Iterable[Tensor], at_once: int = 1) -> Iterator[list[Tensor]]:
    """Yield for each pass the probabilities of every predictor (N, classes) in float32, averaged over the views.

    A pass is uint8 views (N, views, H, W, 3), at most `VIEWS_PER_PASS` of them. Softmax outputs are averaged, not logits.
    [K12 §4.1] `at_once` passes are computed in parallel; on a CPU the caller gives each operation one thread.
    """
    for predictor in predictors:
        predictor.network.eval()
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[list[Tensor]]] = deque()
        for views in passes:
            waiting.append(pool.submit(_one_pass, predictors, views))
            if len(waiting) > 2 * at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _one_pass(predictors: Sequence[Predictor], views: Tensor) -> list[Tensor]:
    num_images, num_views = views.shape[:2]
    flat = views.flatten(0, 1)
    filled = torch.cat((flat, flat.new_zeros(VIEWS_PER_PASS // num_views * num_views - len(flat), *flat.shape[1:])))
    with torch.inference_mode():  # it holds for one thread, this one
        return [_averaged(predictor, filled, num_views)[:num_images].cpu() for predictor in predictors]


def _averaged(predictor: Predictor, views: Tensor, num_views: int) -> Tensor:
    logits: Tensor = predictor.network(predictor.prepare(views))
    probs = logits.float().softmax(dim=1).view(-1, num_views, logits.shape[1]).mean(dim=1)
    return probs if predictor.columns is None else pad(probs, (0, 1), value=NO_OUTPUT)[:, predictor.columns]
