"""Some shards of a planned set: `python -m tasks.workers.shard JOB.json`. Started by `tasks.shard`, several side by side."""

import json
from pathlib import Path

import cv2

from data_shards.planning import Plan
from data_shards.writing import BadImage, part_path, write_shard
from tasks.artifacts import write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import BAD, ShardJob


def main(job_path: Path) -> None:
    """Write what is not there yet; after each shard print a line of progress: `+ images bytes_read`."""
    job = ShardJob.model_validate_json(job_path.read_bytes())
    cv2.setNumThreads(1)  # there is a process for every processor already
    dataset, plan = job.open_dataset(), Plan(job.work)
    for number in range(job.start, job.stop, job.step):
        if part_path(plan.name_of(number), job.work).exists():
            continue
        shard = plan[number]
        written = write_shard(dataset, shard, job.config, job.directory, job.work)
        if written.bad_images and job.config.bad_images == "error":
            _leave(written.bad_images, job.work / BAD / f"{shard.name}.json")
        print(f"+ {len(shard.samples)} {written.source_bytes}")


def _leave(bad_images: list[BadImage], path: Path) -> None:
    """Write down what stops the run, for whoever gathers it from all processes."""
    path.parent.mkdir(exist_ok=True)
    write_synced(path, json.dumps(bad_images))
    raise ValueError(f"{len(bad_images)} images cannot be decoded; they are listed in {path}")


if __name__ == "__main__":
    run_worker(main)
