"""Weights and shards to predictions: `python -m tasks.workers.predict JOB.json ... SHARE`.

Images are decoded once for all networks. The predictions of every shard are a part of their own, written whole; a run that was
killed continues with the shards that lack one. `tasks.workers.join` joins the parts.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple

import torch

from base.errors import InputError
from base.progress import Progress, Silent
from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.evaluation.build_classifier import build_classifier
from model.evaluation.classifiers import import_from
from model.evaluation.predict import pass_sizes, predict
from model.evaluation.predictions import write_part
from model.network.precision import allow_tf32
from tasks.job import Share
from tasks.jobs.predict import PredictJob, part_path
from tasks.workers.entry import run_together
from tasks.workers.networks import Opened, check_crop, labels_of, open_network, passes_of, threads_of, unfinished


class Tested(NamedTuple):
    """A network as it is tested."""

    job: PredictJob
    directory: Path
    network: Opened
    about: dict[str, Any]
    """What its file says about it."""


def main(jobs: Mapping[Path, PredictJob], progress: Progress, share: Share) -> None:
    """Average the probabilities of every network over the views of every image in this share of the shards."""
    if not jobs:
        return
    job = next(iter(jobs.values()))
    device = torch.device(job.devices[share.number % len(job.devices)])
    allow_tf32(False)
    torch.set_num_threads(1)  # how many share an operation would show in the last bits
    paths_of = [partial(part_path, directory) for directory in jobs]
    shards, done, total = unfinished(ShardSet.open(job.shards.path), share, paths_of)
    progress.report(done, total, "images")
    if not len(shards):
        return
    say = progress.say if share.number == 0 else Silent().say  # the other processes would repeat it
    networks = [_open(job, directory, shards, device, say) for directory, job in jobs.items()]
    for crop in sorted({tested.network.crop for tested in networks}):
        loader = Loader(shards, crop, job.batch_size, device, threads_of(job))
        some = [tested for tested in networks if tested.network.crop == crop]
        for num_images in _write_parts(some, loader, job):
            done += num_images * len(some) / len(networks)
            progress.report(done, total, "images")


def _open(job: PredictJob, directory: Path, shards: ShardSet, device: torch.device, say: Callable[[str], None]) -> Tested:
    network = _network(job, shards, device, say)
    packages = ("torch", "nvidia-dali-cuda130", "numpy", "pyarrow")
    about = {
        **job.about,
        "views": job.views,
        "decoder": "DALI",
        "stored_side": shards.side,
        "dtype": "float32",
        "device": device.type,
        "libraries": {"python": python_version(), **{package: version(package) for package in packages}},
        "wnids": shards.wnids,
        **network.fed,
        "weights": job.weights.digest,
        "crop": network.crop,
    }
    return Tested(job, directory, network, about)


def _network(job: PredictJob, shards: ShardSet, device: torch.device, say: Callable[[str], None]) -> Opened:
    """Return our own network, or any classifier. What was done to fit its weights and classes goes to `say`."""
    classifier, weights = job.classifier, job.weights.path
    if classifier is None:
        return open_network(weights, shards, device, bool(job.other_classes))
    import_from(job.factory_folder or Path.cwd())
    check_crop(classifier.input_size, weights, shards, f"give --storage square{classifier.input_size} or more")
    predictor, wnids = build_classifier(classifier, weights, shards.wnids, device, say)
    return Opened(predictor, classifier.input_size, {**classifier.fed, "wnids": wnids})


def _write_parts(networks: list[Tested], loader: Loader, job: PredictJob) -> Iterator[int]:
    """Write the part of every network and shard as soon as the shard has been seen; yield how many images each pass had."""
    at_once = threads_of(job) if loader.device.type == "cpu" else 1
    predicted = predict([tested.network.predictor for tested in networks], passes_of(loader, job.views), at_once)
    for name, samples in loader.shards.samples.groupby("shard", sort=False):
        blocks = []
        for size in pass_sizes([len(samples)], job.views):
            blocks.append(next(predicted))
            yield size
        for tested, probs in zip(networks, zip(*blocks, strict=True), strict=True):
            part = part_path(tested.directory, str(name))
            part.parent.mkdir(exist_ok=True)
            try:
                write_part(part, list(samples["key"]), labels_of(samples), torch.cat(probs), tested.about)
            except InputError as error:
                raise InputError(f"{tested.job.weights.path} on {name}: {error}") from error
    next(predicted, None)  # nothing is left; the stream sees that itself


if __name__ == "__main__":
    run_together(PredictJob, main)
