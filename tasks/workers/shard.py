"""Some shards of a planned set: `python -m tasks.workers.shard JOB.json SHARE`, several processes side by side."""

import json
from pathlib import Path

import cv2

from base.errors import InputError
from base.files import write_text
from base.progress import Progress
from data_shards.planning import Plan
from data_shards.shard_format import BadImage, part_path
from data_shards.writing import write_shard
from tasks.job import WORK, Share
from tasks.jobs.shard import BAD, ShardJob
from tasks.workers.entry import run_worker


def main(job: ShardJob, directory: Path, progress: Progress, share: Share) -> None:
    """Write those shards of the share that do not exist yet."""
    cv2.setNumThreads(1)  # there is a process for every processor already
    work = directory / WORK
    dataset, plan = job.open_dataset(), Plan(work)
    numbers = share.of(range(len(plan)))
    missing = [number for number in numbers if not part_path(plan.name_of(number), work).exists()]
    sizes = {number: plan.num_samples_of(number) for number in numbers}
    total, num_bytes = sum(sizes.values()), 0
    done = total - sum(sizes[number] for number in missing)
    progress.report(done, total, "images")
    for number in missing:
        written = write_shard(dataset, plan[number], job, directory, work)
        if written.bad_images and job.bad_images == "error":
            _leave(written.bad_images, work / BAD / f"{plan.name_of(number)}.json")
        done, num_bytes = done + sizes[number], num_bytes + written.source_bytes
        progress.report(done, total, "images", bytes=num_bytes)


def _leave(bad_images: list[BadImage], path: Path) -> None:
    """Write down what stops the run; the parent collects it from all processes."""
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(bad_images))
    raise InputError(f"{len(bad_images)} images cannot be decoded; they are listed in {path}")


if __name__ == "__main__":
    run_worker(ShardJob, main)
