"""Shards to weights: `python -m tasks.workers.train JOB.json`. Needs torch and DALI but not Prefect.

`JOB.json` holds the fields of `tasks.workers.jobs.TrainJob`; every finished run keeps its own. What is made goes beside the
job file, and a run that was stopped or killed goes on from the newest of `checkpoints` there.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.network.alexnet import AlexNet
from model.network.inputs import Colours
from model.network.precision import allow_tf32
from model.network.weights import WeightsInfo, copy_all_but_last, load_weights, save_weights
from model.training.checkpoint import Checkpoints
from model.training.curves import draw_curves
from model.training.events import Events
from model.training.loop import Data, Saving, StoppedError, Trainer
from model.training.progress import Progress
from model.training.records import Record, as_frame, by_epoch
from model.training.replicas import Replicas, joined
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import CHECKPOINTS, CURVES, EVENTS, MEAN_IMAGE, METRICS, WEIGHTS, TrainJob

VALIDATION_BATCH = 256


def main(job_path: Path) -> None:
    """Train to the end, then write weights, metrics, curves and counts; on SIGTERM save and leave."""
    if (job_path.parent / COUNTS).exists():  # killed when all was done
        shutil.rmtree(job_path.parent / CHECKPOINTS, ignore_errors=True)
        return
    stop_asked = _watch_signals()
    job = TrainJob.model_validate_json(job_path.read_bytes())
    torch.set_num_threads(job.num_threads)
    with joined() as replicas:
        try:
            _train(job, job_path.parent, replicas, stop_asked)
        except StoppedError as stopped:
            if replicas.first:
                print("; ".join((str(stopped), *stopped.__notes__)), flush=True)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


def _train(job: TrainJob, directory: Path, replicas: Replicas, stop_asked: Callable[[], bool]) -> None:
    train, val = ShardSet.open(job.train_shards), ShardSet.open(job.val_shards)
    _check(job, train, val)
    devices = _devices(job, replicas)
    colours = _colours(job, devices[0])
    checkpoints = Checkpoints(directory / CHECKPOINTS)
    events = Events(directory / EVENTS)
    trainer = Trainer(
        network=_network(job, devices),
        config=job.training,
        colours=colours,
        data=_data(job, directory, devices[0], train, val, replicas),
        fine_tune=job.initial_weights is not None,
        saving=Saving(checkpoints, job.checkpoint_minutes, stop_asked, lambda records: _write_metrics(records, directory)),
        progress=Progress(job.training.epochs, len(train), say=print if replicas.first else lambda line: None),
        replicas=replicas,
        record_every=job.record_every,
        recorded=events.write if replicas.first else lambda record: None,
    )
    records = trainer.run()
    events.close()
    if replicas.first:
        info = WeightsInfo(network=job.network, colours=colours, wnids=train.wnids)
        save_weights(trainer.network, info, directory / WEIGHTS)
        _write_metrics(records, directory)
        draw_curves({directory.parent.name: as_frame(records)}, directory / CURVES)
        write_synced(directory / COUNTS, json.dumps(_counts(records)))
        shutil.rmtree(checkpoints.directory)


def _watch_signals() -> Callable[[], bool]:
    """Return a function that says whether SIGTERM, or SIGINT of a terminal, has come."""
    came: list[int] = []
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda number, frame: came.append(number))
    return lambda: bool(came)


def _check(job: TrainJob, train: ShardSet, val: ShardSet) -> None:
    """Refuse shards that do not fit each other or the network."""
    if train.wnids != val.wnids:
        raise ValueError(
            f"{job.train_shards} has {len(train.wnids):,} classes and {job.val_shards} has {len(val.wnids):,}, or others"
        )
    if job.network.num_classes != len(train.wnids):
        raise ValueError(
            f"a network of {job.network.num_classes:,} classes cannot learn the {len(train.wnids):,} of {job.train_shards}"
        )
    side = min(train.side, val.side)
    if side < job.network.crop:
        raise ValueError(
            f"crops of {job.network.crop} px do not fit images of {side} px; shard with a larger side or crop less"
        )


def _devices(job: TrainJob, replicas: Replicas) -> tuple[torch.device, torch.device]:
    """For each tower of this process's network."""
    names = (job.devices[replicas.local_rank],) if job.layout == "replicas" else job.devices
    first, last = torch.device(names[0]), torch.device(names[-1])
    if first.type == "cuda":
        torch.cuda.set_device(first)
    allow_tf32(job.training.precision == "tf32")
    torch.backends.cudnn.benchmark = True
    return first, last


def _colours(job: TrainJob, device: torch.device) -> Colours:
    """What to subtract: the mean colour, or the centre of the mean image."""
    colours = Colours.model_validate_json(job.colours.read_bytes())
    if job.training.mean == "colour":
        return colours
    path = job.colours.with_name(MEAN_IMAGE)
    if not path.is_file():
        raise ValueError(
            f"no {path}: a mean image needs images of one size; shard them as squares, or subtract the mean colour"
        )
    image, crop = np.load(path), job.network.crop
    top, left = ((side - crop) // 2 for side in image.shape[:2])
    centre = np.ascontiguousarray(image[top : top + crop, left : left + crop])
    return colours.model_copy(update={"mean_image": torch.from_numpy(centre).to(device)})


def _network(job: TrainJob, devices: tuple[torch.device, torch.device]) -> AlexNet:
    network = AlexNet(job.network).initialise(job.training.seed, job.training.initial)
    if job.initial_weights is not None:
        copy_all_but_last(load_weights(job.initial_weights)[0], network)
    on_gpu = devices[0].type == "cuda"
    one_piece = job.layout == "one-piece" or (job.layout == "replicas" and on_gpu)
    return network.place(*devices, one_piece)


def _data(job: TrainJob, directory: Path, device: torch.device, train: ShardSet, val: ShardSet, replicas: Replicas) -> Data:
    seed, orders = job.training.seed, directory / CHECKPOINTS / f"orders-{replicas.rank}"
    shared = {"rank": replicas.rank, "num_ranks": replicas.num}
    crop, batch_size, draws = job.network.crop, job.training.batch_size, job.training.images_per_draw
    training = Loader(train, crop, batch_size, device, job.num_threads, draws, **shared)
    validation = Loader(val, crop, VALIDATION_BATCH, device, job.num_threads, **shared)
    return Data(
        num_images=len(train),
        spans=training.spans,
        training_epochs=lambda epoch, start: training.training_epochs(seed, orders, epoch, start),
        validation=lambda: validation.views(1),
    )


def _write_metrics(records: list[Record], directory: Path) -> None:
    if records:
        partial = directory / f"{METRICS}.partial"
        as_frame(records).to_parquet(partial, index=False)
        partial.rename(directory / METRICS)


def _counts(records: list[Record]) -> dict[str, int]:
    last = by_epoch(records)[-1]
    counts = {"epochs": last.epoch, "images_per_epoch": last.train.num_images}
    if last.val is not None:
        counts |= {
            "val_images": last.val.num_images,
            "val_top1_wrong": last.val.top1_wrong,
            "val_top5_wrong": last.val.top5_wrong,
        }
    return counts


if __name__ == "__main__":
    run_worker(main)
