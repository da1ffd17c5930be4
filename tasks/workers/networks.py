"""Networks as prediction and embedding use them: opened, fed, and given every image of a shard set once.

Imported by `tasks.workers.predict` and `tasks.workers.embed`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from base.errors import InputError
from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.evaluation.predict import Predictor, cut, pass_sizes
from model.network.inputs import subtract_mean
from model.network.weights import load_weights
from tasks.job import Share
from tasks.jobs.embed import EmbedJob
from tasks.jobs.predict import PredictJob


class Opened(NamedTuple):
    """A network on its device."""

    predictor: Predictor
    crop: int
    """Side of its views in pixels."""
    fed: dict[str, Any]
    """What its files say about its inputs."""


def open_network(weights: Path, shards: ShardSet, device: torch.device, other_classes: bool = False) -> Opened:
    """Return the network of a weights file of this project. With `other_classes` it may have other classes than the images.

    Raises:
        InputError: its classes are not those of the shards, or its crops do not fit their images.
    """
    network, info = load_weights(weights)
    columns = None
    if other_classes:
        places = {wnid: place for place, wnid in enumerate(info.wnids)}
        columns = torch.tensor([places.get(wnid, len(places)) for wnid in shards.wnids], device=device)
    elif info.wnids != shards.wnids:
        raise InputError(
            f"{weights} has {len(info.wnids):,} classes and {shards.directory} has {len(shards.wnids):,}, "
            f"or different ones; test it on the images of its own classes"
        )
    check_crop(network.config.crop, weights, shards, "shard with a larger side")
    predictor = Predictor(network.place(device, device), partial(subtract_mean, colours=info.colours), columns)
    mean = info.colours.mean if info.colours.mean_image is None else "mean image"
    return Opened(predictor, network.config.crop, {"mean": mean, "scale": (1, 1, 1)})


def check_crop(crop: int, weights: Path, shards: ShardSet, advice: str) -> None:
    """Check that views of this side fit the images.

    Raises:
        InputError: they do not.
    """
    if crop > shards.side:
        raise InputError(f"{weights} reads crops of {crop} px; {shards.directory} stores {shards.side} px: {advice}")


def threads_of(job: PredictJob | EmbedJob) -> int:
    """Return the CPU threads of this process; on a cluster `OMP_NUM_THREADS`, which Dask sets to 1 unless its worker has it."""
    return job.num_threads or int(os.environ.get("OMP_NUM_THREADS", "1"))


def unfinished(shards: ShardSet, share: Share, paths_of: Sequence[Callable[[str], Path]]) -> tuple[ShardSet, float, int]:
    """Return the shards of this share that lack one of their files, and how many of the share's images are done and in all.

    Each of `paths_of` returns the file of a shard, given its name.
    """
    names = list(share.of(list(shards.samples["shard"].unique())))
    missing = [name for name in names if not all(path_of(name).exists() for path_of in paths_of)]
    total = int(shards.samples["shard"].isin(names).sum())
    left = shards.samples[shards.samples["shard"].isin(missing)]
    return replace(shards, samples=left), float(total - len(left)), total


def passes_of(loader: Loader, num_views: int) -> Iterator[Tensor]:
    """Yield the views of every image in passes of fixed sizes, none of which crosses the end of a shard.

    Raises:
        InputError: the labels in the tars are not those of the list that names the images.
    """
    shards = loader.shards
    sizes = pass_sizes(list(shards.samples.groupby("shard", sort=False).size()), num_views)
    expected, start = labels_of(shards.samples), 0
    for views, class_indices, *_ in cut(loader.views(num_views), sizes):
        stop = start + len(views)
        if expected is not None and class_indices.tolist() != expected[start:stop].tolist():
            raise InputError(
                f"the labels in the tars of {shards.directory} differ from its samples.parquet; delete it to shard again"
            )
        start = stop
        yield views


def labels_of(samples: pd.DataFrame) -> Any:
    """Return class indices (N,), None if the images have no labels."""
    indices = samples["class_index"]
    return None if indices.isna().all() else indices.to_numpy("int64")
