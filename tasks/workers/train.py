"""Shards to weights: `python -m tasks.workers.train JOB.json`. Needs torch and DALI but not Prefect.

Writes weights, metrics and event files next to the job file, and checkpoints into the scratch space; a run that was stopped or
killed resumes from the newest. If the job asks for replicas, this process starts one worker for each.
"""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.distributed import is_torchelastic_launched

from base.errors import InputError
from base.progress import Progress, Silent
from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.network.alexnet import AlexNet
from model.network.inputs import Colours
from model.network.precision import allow_tf32
from model.network.weights import WeightsInfo, copy_all_but_last, copy_classes, load_weights, save_weights
from model.training.checkpoint import Checkpoints
from model.training.events import Events
from model.training.loop import StoppedError, Trainer
from model.training.records import Record, by_epoch, write_metrics
from model.training.replicas import Replicas, joined
from tasks.job import WORK, Share
from tasks.jobs.colours import COLOURS, MEAN_IMAGE
from tasks.jobs.train import CHECKPOINTS, EVENTS, METRICS, WEIGHTS, TrainJob
from tasks.workers.entry import Counts, run_worker

VALIDATION_BATCH = 256


def main(job: TrainJob, directory: Path, progress: Progress, share: Share) -> Counts | None:
    """Train to the end and return the counts, or None in every replica but the first; on SIGTERM save and stop."""
    if job.layout == "replicas" and not is_torchelastic_launched():
        from tasks.workers.replicas import run_replicas  # torchrun takes a tenth of a second to import

        run_replicas(job, directory, progress, share)
        return None
    stop_asked = _watch_signals()
    torch.set_num_threads(job.num_threads)
    with joined(job.silent_minutes) as replicas:
        try:
            return _train(job, directory, progress if replicas.first else Silent(), replicas, stop_asked)
        except StoppedError as stopped:
            if replicas.first:
                progress.say("; ".join((str(stopped), *stopped.__notes__)))
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            raise  # never reached


def _train(
    job: TrainJob, directory: Path, progress: Progress, replicas: Replicas, stop_asked: Callable[[], bool]
) -> Counts | None:
    train, val = ShardSet.open(job.train.path), ShardSet.open(job.val.path)
    _check(job, train, val)
    devices = _devices(job, replicas)
    training, validation = _loaders(job, devices[0], train, val, replicas)
    with closing(Events(directory / EVENTS)) as events:
        trainer = Trainer(
            network=_network(job, devices, train.wnids),
            config=job.training,
            colours=_colours(job, devices[0]),
            num_images=len(train),
            fine_tune=job.initial is not None,
            replicas=replicas,
            progress=progress,
            checkpoints=Checkpoints(directory / WORK / CHECKPOINTS, job.checkpoint_minutes),
            stop_asked=stop_asked,
            record_every=job.record_every,
            on_record=partial(_write_record, events, directory) if replicas.first else lambda records: None,
        )
        trainer.resume()
        orders, state = directory / WORK / f"orders-{replicas.rank}", trainer.state
        with closing(training.training_epochs(job.training.seed, orders, state.epoch, state.images)) as epochs:
            records = trainer.run(epochs, lambda: validation.views(1))
    if not replicas.first:
        return None
    info = WeightsInfo(network=job.network, colours=trainer.colours, wnids=train.wnids)
    save_weights(trainer.network, info, directory / WEIGHTS)
    write_metrics(records, directory / METRICS)
    return _counts(records)


def _write_record(events: Events, directory: Path, records: list[Record]) -> None:
    """Write the newest record for those who watch, and all of them after each validation."""
    events.write(records[-1])
    if records[-1].val is not None:
        write_metrics(records, directory / METRICS)


def _watch_signals() -> Callable[[], bool]:
    """Return a function that tells whether SIGTERM, or SIGINT from a terminal, was received."""
    received: list[int] = []
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda number, frame: received.append(number))
    return lambda: bool(received)


def _check(job: TrainJob, train: ShardSet, val: ShardSet) -> None:
    """Refuse shards that do not fit each other or the network."""
    if train.wnids != val.wnids:
        raise InputError(
            f"the {len(train.wnids):,} classes of {job.train.path} and the {len(val.wnids):,} of {job.val.path} differ; "
            f"expected two splits of one dataset"
        )
    if job.network.num_classes != len(train.wnids):
        raise InputError(
            f"a network of {job.network.num_classes:,} classes cannot learn the {len(train.wnids):,} of {job.train.path}"
        )
    side = min(train.side, val.side)
    if side < job.network.crop:
        raise InputError(
            f"crops of {job.network.crop} px do not fit images of {side} px; shard with a larger side or use smaller crops"
        )


def _devices(job: TrainJob, replicas: Replicas) -> tuple[torch.device, torch.device]:
    """Set up the devices of this process; return that of each tower."""
    names = (job.devices[replicas.local_rank],) if job.layout == "replicas" else job.devices
    first, last = torch.device(names[0]), torch.device(names[-1])
    if first.type == "cuda":
        torch.cuda.set_device(first)
    allow_tf32(job.training.precision == "tf32")
    torch.backends.cudnn.benchmark = True
    return first, last


def _colours(job: TrainJob, device: torch.device) -> Colours:
    """Return the colours to subtract, with the centre of the mean image if that is subtracted instead of the mean colour."""
    colours = Colours.model_validate_json((job.colours.path / COLOURS).read_bytes())
    if job.training.mean == "colour":
        return colours
    path = job.colours.path / MEAN_IMAGE
    if not path.is_file():
        raise InputError(
            f"no {path}: a mean image needs images of one size; shard them as squares, or subtract the mean colour"
        )
    image, crop = np.load(path), job.network.crop
    top, left = ((side - crop) // 2 for side in image.shape[:2])
    centre = np.ascontiguousarray(image[top : top + crop, left : left + crop])
    return colours.model_copy(update={"mean_image": torch.from_numpy(centre).to(device)})


def _network(job: TrainJob, devices: tuple[torch.device, torch.device], wnids: Sequence[str]) -> AlexNet:
    network = AlexNet(job.network).initialise(job.training.seed, job.training.initial)
    if job.initial is not None:
        initial, info = load_weights(job.initial.path)
        copy_all_but_last(initial, network)
        if job.keep_classes:
            copy_classes(initial, info.wnids, network, wnids)
    on_gpu = devices[0].type == "cuda"
    one_piece = job.layout == "one-piece" or (job.layout == "replicas" and on_gpu)
    return network.place(*devices, one_piece)


def _loaders(job: TrainJob, device: torch.device, train: ShardSet, val: ShardSet, replicas: Replicas) -> tuple[Loader, Loader]:
    """Return the loaders of this replica's part of the training and validation images."""
    crop, threads, config = job.network.crop, job.num_threads, job.training
    part = {"rank": replicas.rank, "num_ranks": replicas.num}
    return (
        Loader(train, crop, config.batch_size, device, threads, config.images_per_draw, **part),
        Loader(val, crop, VALIDATION_BATCH, device, threads, **part),
    )


def _counts(records: list[Record]) -> Counts:
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
    run_worker(TrainJob, main)
