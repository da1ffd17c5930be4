"""Weights to a folder that needs torch alone: `python -m tasks.workers.export JOB.json`.

Writes the plain network (`alexnet.py`, `config.json`, `model.safetensors`), an ONNX file if the job asks for one, and how close
both are to the network on real images.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from base.files import atomic_write, write_text
from base.progress import Progress
from data_shards.decoding import decode_jpeg
from data_shards.shard_set import ShardSet
from model.evaluation.predict import predict
from model.export import alexnet as plain
from model.export.parity import Parity, compare
from model.export.plain import plain_sizes, plain_state
from model.network.weights import load_weights
from tasks.job import Share
from tasks.jobs.export import ONNX, PARITY, ExportJob
from tasks.workers.entry import Counts, run_worker
from tasks.workers.networks import open_network
from tasks.workers.pictures import picture_of

NUM_COMPARED = 100
"""(ours) Images, spread evenly over the set."""

PER_PASS = 10
"""Images of ten views in a pass of `model.evaluation.predict`."""


def main(job: ExportJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Write the copies and compare what they answer with what the network answers.

    Raises:
        InputError: the classes of the weights are not those of the shards.
    """
    del share
    torch.set_num_threads(1)
    shards = ShardSet.open(job.shards.path)
    opened = open_network(job.weights.path, shards, torch.device("cpu"))
    images = _images(shards)
    passes = (_views(images[start : start + PER_PASS], opened.crop) for start in range(0, len(images), PER_PASS))
    ours = torch.cat([probs[0] for probs in predict([opened.predictor], passes)])
    progress.report(1, 3, "steps", "the network has answered")
    _write_plain(job, shards, directory)
    copies: dict[str, Callable[[Tensor], Tensor]] = {plain.WEIGHTS: plain.load(directory)}
    if job.onnx:
        from model.export.onnx_file import open_onnx, write_onnx  # not in the base install

        write_onnx(plain.load(directory), opened.crop, directory / ONNX)
        copies[ONNX] = open_onnx(directory / ONNX)
    progress.report(2, 3, "steps", "the copies are written")
    parities = {name: _compared(ours, copy, images, opened.crop) for name, copy in copies.items()}
    write_text(
        directory / PARITY, json.dumps({name: parity.model_dump() for name, parity in parities.items()}, indent=2) + "\n"
    )
    progress.report(3, 3, "steps", "the copies have answered")
    return {"images": len(images), "classes": ours.shape[1], "copies": len(copies)}


def _write_plain(job: ExportJob, shards: ShardSet, directory: Path) -> None:
    network, info = load_weights(job.weights.path)
    config = {
        "network": plain_sizes(info.network, info.colours),
        "stored_side": shards.side,
        "wnids": info.wnids,
        "words": list(shards.classes["words"].fillna(shards.classes["wnid"])),
    }
    shutil.copyfile(Path(plain.__file__), directory / "alexnet.py")
    write_text(directory / plain.CONFIG, json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    with atomic_write(directory / plain.WEIGHTS) as file:
        file.write(save(plain_state(network, info.colours)))


def _images(shards: ShardSet) -> Tensor:
    """Stored images, bytes (N, 3, S, S)."""
    places = np.unique(np.linspace(0, len(shards) - 1, NUM_COMPARED).astype(int))
    picture = picture_of(shards)
    pixels = [decode_jpeg(picture(key)) for key in shards.samples["key"].iloc[places]]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def _views(images: Tensor, crop: int) -> Tensor:
    """The ten views of each image as the network takes them, (N, 10, crop, crop, 3)."""
    return torch.stack([plain.ten_views(image, crop) for image in images]).permute(0, 1, 3, 4, 2)


def _compared(ours: Tensor, copy: Callable[[Tensor], Tensor], images: Tensor, crop: int) -> Parity:
    with torch.inference_mode():
        answers = [plain.average(copy, plain.ten_views(image, crop)) for image in images]
    return compare(ours, torch.stack(answers))


if __name__ == "__main__":
    run_worker(ExportJob, main)
