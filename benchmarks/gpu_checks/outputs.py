"""Whether a GPU predicts and embeds as a CPU does, and how fast from shards."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor

from benchmarks.gpu_checks.bench import CPU, Bench, Found, relative
from benchmarks.record import COLOURS
from model.evaluation.predict import Predictor, predict
from model.network.inputs import subtract_mean
from model.network.precision import allow_tf32
from model.retrieval.embed import Embedder, embed, features_of
from tasks.workers.networks import passes_of

OUTPUT_LIMIT = 1e-3
"""(ours) Of the largest difference between GPU and CPU in fp32, as a share of the largest value."""
NUM_TESTED = 2000


def prediction(bench: Bench) -> Found:
    """Compare ten-view probabilities with the CPU's of the same pixels; measure from shards to probabilities."""
    allow_tf32(False)
    predictors = [
        Predictor(bench.network().place(device, device), partial(subtract_mean, colours=COLOURS))
        for device in (bench.device, CPU)
    ]
    return _tested(bench, 10, lambda which, passes: (probs for (probs,) in predict([predictors[which]], passes)))


def embedding(bench: Bench) -> Found:
    """Compare features with the CPU's of the same pixels; measure from shards to features, on as many threads as a worker."""
    allow_tf32(False)
    embedders = [
        Embedder(features_of(bench.network().place(device, device)), partial(subtract_mean, colours=COLOURS))
        for device in (bench.device, CPU)
    ]
    at_once = bench.num_threads
    return _tested(bench, 1, lambda which, passes: (found for (found,) in embed([embedders[which]], passes, at_once)))


def _tested(bench: Bench, num_views: int, outputs: Callable[[int, Iterator[Tensor]], Iterator[Tensor]]) -> Found:
    """Compare outputs of the first device with those of the CPU; measure from shards, and with the views at hand."""
    loader = bench.loader(bench.device, 40, many=True)
    some = list(islice(passes_of(loader, num_views), -(-NUM_TESTED // 100 * num_views) if bench.num_gpus else 2))
    few = some[:2]
    found = torch.cat(list(outputs(0, iter(few))))
    share = relative(found, torch.cat(list(outputs(1, (views.cpu() for views in few)))))
    start = perf_counter()
    alone = sum(map(len, outputs(0, iter(some)))) / (perf_counter() - start)
    whole = passes_of(loader, num_views)
    next(whole)
    start = perf_counter()
    from_shards = sum(map(len, outputs(0, islice(whole, len(some))))) / (perf_counter() - start)
    values = {"apart": share, "from_shards": from_shards, "network": alone}
    said = (
        f"apart from the CPU's by {share:.2g} (limit {OUTPUT_LIMIT:g}); {from_shards:,.0f} images/s, network alone {alone:,.0f}"
    )
    return Found(share <= OUTPUT_LIMIT, said, values)
