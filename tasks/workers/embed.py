"""Shards to one vector per image: `python -m tasks.workers.embed JOB.json ... SHARE`. Images are decoded once for all networks.

A shard whose vectors exist is skipped, so a run that was killed continues.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from base.progress import Progress, Silent
from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.evaluation.classifiers import import_from
from model.evaluation.factories import build_network, prepare, try_out
from model.evaluation.predict import Predictor, pass_sizes
from model.network.precision import allow_tf32
from model.retrieval.embed import NUM_VIEWS, Embedder, embed, features_of, pixels
from model.retrieval.vectors import write_vectors
from tasks.job import Share
from tasks.jobs.embed import EmbedJob, vectors_path
from tasks.workers.entry import run_together
from tasks.workers.networks import Opened, check_crop, open_network, passes_of, threads_of, unfinished


class Embedded(NamedTuple):
    """A network as it embeds, or none for pixels."""

    job: EmbedJob
    directory: Path
    embedder: Embedder | None
    crop: int
    about: dict[str, Any]
    """What its files say about it."""


def main(jobs: Mapping[Path, EmbedJob], progress: Progress, share: Share) -> None:
    """Write the vectors of every network for this share of the shards."""
    if not jobs:
        return
    job = next(iter(jobs.values()))
    device = torch.device(job.devices[share.number % len(job.devices)])
    allow_tf32(False)
    torch.set_num_threads(1)  # how many share an operation would show in the last bits
    paths_of = [partial(vectors_path, directory) for directory in jobs]
    shards, done, total = unfinished(ShardSet.open(job.shards.path), share, paths_of)
    progress.report(done, total, "images")
    if not len(shards):
        return
    say = progress.say if share.number == 0 else Silent().say  # the other processes would repeat it
    opened = [_open(job, directory, shards, device, say) for directory, job in jobs.items()]
    for crop in sorted({one.crop for one in opened}):
        some = [one for one in opened if one.crop == crop]
        for num_images in _write(some, Loader(shards, crop, job.batch_size, device, threads_of(job)), job):
            done += num_images * len(some) / len(opened)
            progress.report(done, total, "images")


def _open(job: EmbedJob, directory: Path, shards: ShardSet, device: torch.device, say: Callable[[str], None]) -> Embedded:
    about: dict[str, Any] = {"dataset": job.dataset, "split": job.split, "shards": job.shards.digest}
    if job.weights is None:
        crop = job.crop or shards.side
        return Embedded(job, directory, None, crop, {**about, "space": "pixels", "crop": crop})
    network = _network(job, job.weights.path, shards, device, say)
    embedder = Embedder(features_of(network.predictor.network, job.layer), network.predictor.prepare)
    about |= {
        "space": "features",
        "crop": network.crop,
        "weights": job.weights.digest,
        "layer": job.layer or "fc7",
        **network.fed,
    }
    return Embedded(job, directory, embedder, network.crop, about)


def _network(job: EmbedJob, weights: Path, shards: ShardSet, device: torch.device, say: Callable[[str], None]) -> Opened:
    """Return our own network, or any. What was done to fit its weights is said."""
    factory = job.factory
    if factory is None:
        return open_network(weights, shards, device)
    import_from(job.factory_folder or Path.cwd())
    check_crop(factory.input_size, weights, shards, f"give --storage square{factory.input_size} or more")
    network, notes = build_network(factory, weights, device)
    for note in notes:
        say(note)
    try_out(network, factory, device)
    return Opened(Predictor(network, prepare(factory)), factory.input_size, factory.fed)


def _write(opened: list[Embedded], loader: Loader, job: EmbedJob) -> Iterator[int]:
    """Write the vectors of every shard as soon as it has been seen; yield how many images each pass had."""
    vectors = _vectors(opened, loader, job)
    for name, samples in loader.shards.samples.groupby("shard", sort=False):
        blocks = []
        for size in pass_sizes([len(samples)], NUM_VIEWS):
            blocks.append(next(vectors))
            yield size
        wnids = None if samples["wnid"].isna().all() else list(samples["wnid"])
        for one, found in zip(opened, zip(*blocks, strict=True), strict=True):
            values = np.concatenate([block.numpy() for block in found])
            values = values if one.job.dtype is None else values.astype(one.job.dtype)
            write_vectors(vectors_path(one.directory, str(name)), list(samples["key"]), wnids, values, one.about)
    next(vectors, None)  # nothing is left; the stream sees that itself


def _vectors(opened: list[Embedded], loader: Loader, job: EmbedJob) -> Iterator[list[Tensor]]:
    """Yield for each pass the features of every network, and the pixels for a job without one."""
    seen: deque[Tensor] = deque()
    networks = [one.embedder for one in opened if one.embedder is not None]
    for features in embed(networks, _remembered(passes_of(loader, NUM_VIEWS), seen), threads_of(job)):
        of_networks, (of_pixels,) = iter(features), pixels([seen.popleft()])
        yield [of_pixels if one.embedder is None else next(of_networks) for one in opened]


def _remembered(passes: Iterator[Tensor], seen: deque[Tensor]) -> Iterator[Tensor]:
    """Keep each pass until its features are there."""
    for views in passes:
        seen.append(views)
        yield views


if __name__ == "__main__":
    run_together(EmbedJob, main)
