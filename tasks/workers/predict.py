"""Weights and shards to predictions: `python -m tasks.workers.predict JOB.json`. Images are decoded once for all networks."""

import json
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import torch

from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.evaluation.predict import Member, predict
from model.evaluation.predictions import Predictions, write_predictions
from model.network.weights import load_weights
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import PREDICTIONS, PredictJob, PredictTarget

SECONDS_BETWEEN_LINES = 5.0


def main(job_path: Path) -> None:
    """Average every network's probabilities over the views of every image; write one file a network."""
    job = PredictJob.model_validate_json(job_path.read_bytes())
    torch.set_num_threads(job.num_threads)
    shards = ShardSet.open(job.shards)
    members = [_member(target.weights, shards, job.device) for target in job.targets]
    crops = {member.network.config.crop for member in members}
    if len(crops) > 1:
        raise ValueError(
            f"networks that read crops of {sorted(crops)} px cannot share one pass; evaluate them one size at a time"
        )
    loader = Loader(shards, crops.pop(), job.batch_size, torch.device(job.device), job.num_threads)
    probs: list[list[torch.Tensor]] = [[] for _ in members]
    classes: list[torch.Tensor] = []
    start = last_line = perf_counter()
    for batch_probs, class_indices in predict(members, loader.views(job.views)):
        classes.append(class_indices)
        for kept, new in zip(probs, batch_probs, strict=True):
            kept.append(new)
        if perf_counter() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = perf_counter()
            _say(sum(map(len, classes)), len(shards), last_line - start)
    _say(len(shards), len(shards), perf_counter() - start)
    class_indices = torch.cat(classes)
    _check_order(class_indices, shards)
    for target, member_probs in zip(job.targets, probs, strict=True):
        _write(
            target, job, shards, Predictions(list(shards.samples["key"]), class_indices, torch.cat(member_probs), shards.wnids)
        )


def _say(done: int, total: int, seconds: float) -> None:
    rate = done / seconds
    print(f"{done / total:4.0%}  {done:,} of {total:,} images  {rate:,.0f} images/s  {(total - done) / rate:.0f} s left")


def _member(weights: Path, shards: ShardSet, device: str) -> Member:
    network, info = load_weights(weights)
    if info.wnids != shards.wnids:
        raise ValueError(
            f"{weights} knows {len(info.wnids):,} classes and {shards.directory} has {len(shards.wnids):,}, or other ones"
        )
    if network.config.crop > shards.side:
        raise ValueError(f"{weights} reads crops of {network.config.crop} px; {shards.directory} stores {shards.side} px")
    return Member(network.place(torch.device(device), torch.device(device)), info.colours)


def _check_order(class_indices: torch.Tensor, shards: ShardSet) -> None:
    """The labels that came with the pixels must be those of the list that names the images."""
    if class_indices.tolist() != shards.class_indices.tolist():
        raise ValueError(
            f"the labels in the tars of {shards.directory} differ from its samples.parquet; delete it to shard again"
        )


def _write(target: PredictTarget, job: PredictJob, shards: ShardSet, predictions: Predictions) -> None:
    about = {
        "decoder": f"DALI {version('nvidia-dali-cuda130')}",
        "torch": version("torch"),
        "device": job.device.split(":")[0],
        "dtype": "float32",
        "views": job.views,
        "stored_side": shards.side,
    }
    write_predictions(predictions, about, target.output / PREDICTIONS)
    counts = predictions.count_errors()
    summary = {"images": counts.num_images, "top1_wrong": counts.top1_wrong, "top5_wrong": counts.top5_wrong}
    write_synced(target.output / COUNTS, json.dumps(summary))


if __name__ == "__main__":
    run_worker(main)
