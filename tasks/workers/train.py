"""Shards to weights: `python -m tasks.workers.train JOB.json`. Needs torch and DALI but not Prefect.

`JOB.json` holds the fields of `tasks.workers.jobs.TrainJob`; every finished run keeps its own. What is made goes beside the
job file, and a run that was killed goes on from `checkpoint.pt` there.
"""

import json
from pathlib import Path

import torch

from data_shards.loading.dali import Loader
from data_shards.shard_set import ShardSet
from model.network.alexnet import AlexNet
from model.network.inputs import Colours
from model.network.weights import WeightsInfo, copy_all_but_last, load_weights, save_weights
from model.training.loop import Data, Trainer
from model.training.progress import Progress
from model.training.records import EpochRecord, as_frame
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import CHECKPOINT, METRICS, WEIGHTS, TrainJob

VALIDATION_BATCH = 256


def main(job_path: Path) -> None:
    """Train to the end, then write weights, metrics and counts."""
    job = TrainJob.model_validate_json(job_path.read_bytes())
    torch.set_num_threads(job.num_threads)
    train, val = ShardSet.open(job.train_shards), ShardSet.open(job.val_shards)
    _check(job, train, val)
    colours = Colours.model_validate_json(job.colours.read_bytes())
    network = _network(job)
    data = _data(job, train, val)
    progress = Progress(job.training.epochs, len(train))
    checkpoint = job_path.with_name(CHECKPOINT)
    records = Trainer(network, job.training, colours, data, job.initial_weights is not None, checkpoint, progress).run()
    save_weights(network, WeightsInfo(network=job.network, colours=colours, wnids=train.wnids), job_path.with_name(WEIGHTS))
    as_frame(records).to_parquet(job_path.with_name(METRICS), index=False)
    write_synced(job_path.with_name(COUNTS), json.dumps(_counts(records)))
    checkpoint.unlink()


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
    if min(train.side, val.side) < job.network.crop:
        raise ValueError(
            f"crops of {job.network.crop} px do not fit images of {train.side} px; shard with a larger side or crop less"
        )


def _network(job: TrainJob) -> AlexNet:
    network = AlexNet(job.network).initialise(job.training.seed)
    if job.initial_weights is not None:
        copy_all_but_last(load_weights(job.initial_weights)[0], network)
    return network.place(torch.device(job.devices[0]), torch.device(job.devices[-1]))


def _data(job: TrainJob, train: ShardSet, val: ShardSet) -> Data:
    device = torch.device(job.devices[0])
    training = Loader(train, job.network.crop, job.training.batch_size, device, job.num_threads)
    validation = Loader(val, job.network.crop, VALIDATION_BATCH, device, job.num_threads)
    return Data(len(train), lambda epoch: training.training_epoch(job.training.seed, epoch), lambda: validation.views(1))


def _counts(records: list[EpochRecord]) -> dict[str, int]:
    last = records[-1]
    counts = {"epochs": len(records), "images_per_epoch": last.train.num_images}
    if last.val is not None:
        counts |= {
            "val_images": last.val.num_images,
            "val_top1_wrong": last.val.top1_wrong,
            "val_top5_wrong": last.val.top5_wrong,
        }
    return counts


if __name__ == "__main__":
    run_worker(main)
