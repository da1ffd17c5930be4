"""Weights and shards to predictions: `python -m tasks.workers.predict JOB.json ... SHARE`.

Images are decoded once for all networks. The predictions of every shard are a part of their own, written whole; a run that was
killed continues with the shards that lack one. `tasks.workers.join` joins the parts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from base.errors import InputError
from base.progress import Progress, Silent
from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.evaluation.build_classifier import build_classifier
from model.evaluation.classifiers import import_from
from model.evaluation.predict import Predictor, cut, pass_sizes, predict
from model.evaluation.predictions import write_part
from model.network.inputs import subtract_mean
from model.network.precision import allow_tf32
from model.network.weights import load_weights
from tasks.job import Share
from tasks.jobs.predict import PredictJob, part_path
from tasks.workers.entry import run_together


class Tested(NamedTuple):
    """A network as it is tested."""

    job: PredictJob
    directory: Path
    predictor: Predictor
    crop: int
    """Side of its views in pixels."""
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
    shards = ShardSet.open(job.shards.path)
    names = list(share.of(list(shards.samples["shard"].unique())))
    missing = [name for name in names if any(not part_path(directory, name).exists() for directory in jobs)]
    total = int(shards.samples["shard"].isin(names).sum())
    if not missing:
        progress.report(total, total, "images")
        return
    samples = pd.concat([shards.samples[shards.samples["shard"] == name] for name in missing])
    progress.report(total - len(samples), total, "images")
    shards = replace(shards, samples=samples)
    say = progress.say if share.number == 0 else Silent().say  # the other processes would repeat it
    networks = [_open(job, directory, shards, device, say) for directory, job in jobs.items()]
    done = float(total - len(samples))
    for crop in sorted({network.crop for network in networks}):
        loader = Loader(shards, crop, job.batch_size, device, job.num_threads)
        some = [network for network in networks if network.crop == crop]
        for num_images in _write_parts(some, loader, job):
            done += num_images * len(some) / len(networks)
            progress.report(done, total, "images")


def _open(job: PredictJob, directory: Path, shards: ShardSet, device: torch.device, say: Callable[[str], None]) -> Tested:
    path = job.weights.path
    if job.classifier is not None:
        import_from(job.factory_folder or Path.cwd())
        predictor, wnids = build_classifier(job.classifier, path, shards.wnids, device, say)
        fed: dict[str, Any] = {
            "factory": job.classifier.factory,
            "mean": job.classifier.mean,
            "scale": job.classifier.scale,
            "wnids": wnids,
        }
        crop = job.classifier.input_size
    else:
        network, info = load_weights(path)
        if info.wnids != shards.wnids:
            raise InputError(
                f"{path} has {len(info.wnids):,} classes and {shards.directory} has {len(shards.wnids):,}, "
                f"or different ones; test it on the images of its own classes"
            )
        predictor = Predictor(network.place(device, device), partial(subtract_mean, colours=info.colours))
        mean = info.colours.mean if info.colours.mean_image is None else "mean image"
        fed, crop = {"mean": mean, "scale": (1, 1, 1)}, network.config.crop
    if crop > shards.side:
        advice = "shard with a larger side" if job.classifier is None else f"give --storage square{crop} or more"
        raise InputError(f"{path} reads crops of {crop} px; {shards.directory} stores {shards.side} px: {advice}")
    about = {**_about(job, shards, device), **fed, "weights": job.weights.digest, "crop": crop}
    return Tested(job, directory, predictor, crop, about)


def _about(job: PredictJob, shards: ShardSet, device: torch.device) -> dict[str, Any]:
    packages = ("torch", "nvidia-dali-cuda130", "numpy", "pyarrow")
    return {
        **job.about,
        "views": job.views,
        "decoder": "DALI",
        "stored_side": shards.side,
        "dtype": "float32",
        "device": device.type,
        "libraries": {"python": python_version(), **{package: version(package) for package in packages}},
        "wnids": shards.wnids,
    }


def _write_parts(networks: list[Tested], loader: Loader, job: PredictJob) -> Iterator[int]:
    """Write the part of every network and shard as soon as the shard has been seen; yield how many images each pass had."""
    shards = loader.shards
    by_shard = list(shards.samples.groupby("shard", sort=False))
    sizes = pass_sizes((len(samples) for _, samples in by_shard), job.views)
    passes = _checked(cut(loader.views(job.views), sizes), shards)
    at_once = job.num_threads if loader.device.type == "cpu" else 1
    predicted = predict([network.predictor for network in networks], passes, at_once)
    for name, samples in by_shard:
        blocks = []
        for size in pass_sizes([len(samples)], job.views):
            blocks.append(next(predicted))
            yield size
        for network, probs in zip(networks, zip(*blocks, strict=True), strict=True):
            part = part_path(network.directory, str(name))
            part.parent.mkdir(exist_ok=True)
            try:
                write_part(part, list(samples["key"]), _labels(samples), torch.cat(probs), network.about)
            except InputError as error:
                raise InputError(f"{network.job.weights.path} on {name}: {error}") from error
    next(predicted, None)  # nothing is left; the stream sees that itself


def _checked(batches: Iterator[tuple[Tensor, ...]], shards: ShardSet) -> Iterator[Tensor]:
    """Yield the views; the labels that came with the pixels must be those of the list that names the images."""
    expected, start = _labels(shards.samples), 0
    for views, class_indices, *_ in batches:
        stop = start + len(views)
        if expected is not None and class_indices.tolist() != expected[start:stop].tolist():
            raise InputError(
                f"the labels in the tars of {shards.directory} differ from its samples.parquet; delete it to shard again"
            )
        start = stop
        yield views


def _labels(samples: pd.DataFrame) -> Any:
    """Class indices (N,), None if the images have no labels."""
    indices = samples["class_index"]
    return None if indices.isna().all() else indices.to_numpy("int64")


if __name__ == "__main__":
    run_together(PredictJob, main)
