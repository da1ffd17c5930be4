"""Images of one split to a set of shards: `python -m tasks.workers.shard JOB.json`. Started by `tasks.shard`."""

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter

import cv2

from data_shards.writing import WrittenShard, plan_shards, write_lists, write_shard
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import die_with_parent, run_worker
from tasks.workers.jobs import ShardJob

SECONDS_BETWEEN_LINES = 5.0


def main(job_path: Path) -> None:
    """Write every shard of the job, several at a time, then the lists over them."""
    job = ShardJob.model_validate_json(job_path.read_bytes())
    dataset = job.source.open(job.unpack_dir)
    plans = plan_shards(dataset, job.split, job.config)
    num_images = sum(len(plan.samples) for plan in plans)
    print(f"  0%  {num_images:,} images of {len(dataset.classes()):,} classes into {len(plans):,} shards")
    work = partial(write_shard, dataset, config=job.config, directory=job_path.parent)
    with ProcessPoolExecutor(job.num_workers, multiprocessing.get_context("fork"), _begin_process) as pool:
        shards = list(_watched(pool.map(work, plans), num_images))
    counts = write_lists(dataset, shards, job_path.parent)
    write_synced(job_path.with_name(COUNTS), json.dumps(counts))


def _begin_process() -> None:
    die_with_parent()
    cv2.setNumThreads(1)  # there is a process for every processor already


def _watched(shards: Iterator[WrittenShard], num_images: int) -> Iterator[WrittenShard]:
    """Pass the shards on, saying every few seconds how far they are."""
    start = last_line = perf_counter()
    done = 0
    for shard in shards:
        yield shard
        done += len(shard.samples) + len(shard.bad_images)
        now = perf_counter()
        if now - last_line >= SECONDS_BETWEEN_LINES or done == num_images:
            rate = done / (now - start)
            left = (num_images - done) / rate
            print(f"{done / num_images:4.0%}  {done:,} of {num_images:,} images  {rate:,.0f} images/s  {left:.0f} s left")
            last_line = now


if __name__ == "__main__":
    run_worker(main)
