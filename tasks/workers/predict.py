"""Weights and shards to predictions: `python -m tasks.workers.predict JOB.json`. Images are decoded once for all networks.

Every shard's predictions are a part of their own, written as a whole; a run that was killed goes on with the shards that lack
one. At the end the parts are joined in the order of the shards, and asserted to be its images, each once.
"""

import json
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from platform import python_version
from time import perf_counter
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.evaluation.classifiers import build_member
from model.evaluation.predict import Member, cut, pass_sizes, predict
from model.evaluation.predictions import join_parts, open_predictions, write_part
from model.network.inputs import subtract_mean
from model.network.precision import allow_tf32
from model.network.weights import load_weights
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import die_with_parent, run_worker
from tasks.workers.jobs import PREDICTIONS, PredictJob, PredictTarget

PARTS = "parts"
SECONDS_BETWEEN_LINES = 5.0

_seen: "Synchronized[int]"
"""Images predicted, times networks, of all processes."""


class Scored(NamedTuple):
    """A network as it is to be scored."""

    target: PredictTarget
    member: Member
    crop: int
    """Side of its views in pixels."""
    about: dict[str, Any]
    """What its file says of it."""


def main(job_path: Path) -> None:
    """Average every network's probabilities over the views of every image; write one file a network."""
    job = PredictJob.model_validate_json(job_path.read_bytes())
    shards = ShardSet.open(job.shards)
    targets = [target for target in job.targets if not (target.output / PREDICTIONS).exists()]
    shard_names = list(shards.samples["shard"].unique())
    missing = [name for name in shard_names if any(not _part(target, name).exists() for target in targets)]
    if missing:
        _predict(job, shards, targets, missing)
    for target in targets:
        _finish(target, shards, [_part(target, name) for name in shard_names])
    for target in job.targets:
        shutil.rmtree(target.output / PARTS, ignore_errors=True)


def _predict(job: PredictJob, shards: ShardSet, targets: list[PredictTarget], missing: list[str]) -> None:
    """Divide the shards that lack a part among the devices, and say every few seconds how far they are."""
    num_images = int(shards.samples["shard"].isin(missing).sum())
    if num_images < len(shards):
        print(f"  0%  resumed: {len(shards) - num_images:,} of {len(shards):,} images were predicted before")
    start = perf_counter()
    context = multiprocessing.get_context("fork")
    seen = context.Value("q", 0)
    shares = {device_number: missing[device_number :: len(job.devices)] for device_number in range(len(job.devices))}
    shares = {number: share for number, share in shares.items() if share}
    with ProcessPoolExecutor(len(shares), context, _begin_process, (seen,)) as pool:
        futures = [pool.submit(_score, job, targets, share, job.devices[number]) for number, share in shares.items()]
        while wait(futures, SECONDS_BETWEEN_LINES, FIRST_EXCEPTION).not_done:
            _raise_first(futures)
            _say(seen.value // len(targets), num_images, perf_counter() - start)
        _raise_first(futures)
    _say(num_images, num_images, perf_counter() - start)


def _begin_process(seen: "Synchronized[int]") -> None:
    global _seen
    die_with_parent()
    _seen = seen
    allow_tf32(False)
    torch.set_num_threads(1)  # how many share an operation would show in the last bits


def _raise_first(futures: Sequence[Future[None]]) -> None:
    """Where a process failed, stop the others and raise what it raised."""
    error = next((future.exception() for future in futures if future.done() and future.exception()), None)
    if error is not None:
        for child in multiprocessing.active_children():
            child.terminate()
        raise error


def _say(done: int, total: int, seconds: float) -> None:
    rate = done / seconds
    left = f"{(total - done) / rate:.0f} s left" if done else "starting"
    print(f"{done / total:4.0%}  {done:,} of {total:,} images  {rate:,.0f} images/s  {left}", flush=True)


def _score(job: PredictJob, targets: list[PredictTarget], shard_names: list[str], device: str) -> None:
    """Predict some shards with all networks, those that read crops of one size in one pass."""
    shards = ShardSet.open(job.shards)
    samples = pd.concat([shards.samples[shards.samples["shard"] == name] for name in shard_names])
    shards = replace(shards, samples=samples)
    networks = [_open(target, job, shards, torch.device(device)) for target in targets]
    for crop in sorted({network.crop for network in networks}):
        loader = Loader(shards, crop, job.batch_size, torch.device(device), job.num_threads)
        _write_parts(job, [network for network in networks if network.crop == crop], loader)


def _open(target: PredictTarget, job: PredictJob, shards: ShardSet, device: torch.device) -> Scored:
    if target.classifier is not None:
        classifier = target.classifier
        member = build_member(classifier, target.weights, shards.wnids, device)
        fed: dict[str, Any] = {"factory": classifier.factory, "mean": classifier.mean, "scale": classifier.scale}
        crop = classifier.input_size
    else:
        network, info = load_weights(target.weights)
        if info.wnids != shards.wnids:
            raise ValueError(
                f"{target.weights} knows {len(info.wnids):,} classes and {shards.directory} has {len(shards.wnids):,}, "
                f"or other ones; score it on the images of its own classes"
            )
        member = Member(network.place(device, device), partial(subtract_mean, colours=info.colours))
        mean = info.colours.mean if info.colours.mean_image is None else "mean image"
        fed, crop = {"mean": mean, "scale": (1, 1, 1)}, network.config.crop
    if crop > shards.side:
        raise ValueError(
            f"{target.weights} reads crops of {crop} px; {shards.directory} stores {shards.side} px: shard with a larger side"
        )
    return Scored(target, member, crop, {**_about(job, shards, device), **fed, "weights": target.digest, "crop": crop})


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


def _write_parts(job: PredictJob, networks: list[Scored], loader: Loader) -> None:
    """Write every network's part of every shard, as soon as the shard has been seen."""
    shards = loader.shards
    by_shard = list(shards.samples.groupby("shard", sort=False))
    sizes = pass_sizes((len(samples) for _, samples in by_shard), job.views)
    passes = _checked(cut(loader.views(job.views), sizes), shards)
    at_once = job.num_threads if loader.device.type == "cpu" else 1
    predicted = predict([network.member for network in networks], passes, at_once)
    for name, samples in by_shard:
        blocks = []
        for size in pass_sizes([len(samples)], job.views):
            blocks.append(next(predicted))
            with _seen.get_lock():
                _seen.value += size * len(networks)
        for network, probs in zip(networks, zip(*blocks, strict=True), strict=True):
            part = _part(network.target, str(name))
            part.parent.mkdir(exist_ok=True)
            try:
                write_part(part, list(samples["key"]), _labels(samples), torch.cat(probs), network.about)
            except ValueError as error:
                raise ValueError(f"{network.target.weights} on {name}: {error}") from error
    next(predicted, None)  # nothing is left; the stream sees that itself


def _checked(batches: Iterator[tuple[Tensor, Tensor]], shards: ShardSet) -> Iterator[Tensor]:
    """Yield the views; the labels that came with the pixels must be those of the list that names the images."""
    expected, start = _labels(shards.samples), 0
    for views, class_indices in batches:
        stop = start + len(views)
        if expected is not None and class_indices.tolist() != expected[start:stop].tolist():
            raise ValueError(
                f"the labels in the tars of {shards.directory} differ from its samples.parquet; delete it to shard again"
            )
        start = stop
        yield views


def _labels(samples: pd.DataFrame) -> Any:
    """Class indices (N,), None where the images have no labels."""
    indices = samples["class_index"]
    return None if indices.isna().all() else indices.to_numpy("int64")


def _part(target: PredictTarget, shard_name: str) -> Path:
    return target.output / PARTS / f"{shard_name.removesuffix('.tar')}.parquet"


def _finish(target: PredictTarget, shards: ShardSet, parts: list[Path]) -> None:
    """Join the parts, having written what they count."""
    joined = target.output / PREDICTIONS
    whole = joined.with_name("whole.parquet")
    join_parts(parts, list(shards.samples["key"]), whole)
    counts = open_predictions(whole).answers().count_errors()
    summary = {"images": len(shards)}
    if counts is not None:
        summary |= {"top1_wrong": counts.top1_wrong, "top5_wrong": counts.top5_wrong}
    write_synced(target.output / COUNTS, json.dumps(summary))
    whole.rename(joined)  # last: who finds it finds the counts too


if __name__ == "__main__":
    run_worker(main)
