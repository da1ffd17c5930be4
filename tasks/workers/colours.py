"""A training set's shards to the colours that training subtracts: `python -m tasks.workers.colours JOB.json`."""

import json
from pathlib import Path
from time import perf_counter

import numpy as np

from data_shards.colours import measure_colours
from data_shards.shard_set import ShardSet
from model.network.inputs import Colours
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import COLOURS, MEAN_IMAGE, ColoursJob

SECONDS_BETWEEN_LINES = 5.0


def main(job_path: Path) -> None:
    """Measure every pixel of every image."""
    job = ColoursJob.model_validate_json(job_path.read_bytes())
    shards = ShardSet.open(job.shards)
    start = last_line = perf_counter()
    for seen in measure_colours(shards, job.num_threads):
        if isinstance(seen, int):
            if perf_counter() - last_line >= SECONDS_BETWEEN_LINES:
                last_line = perf_counter()
                rate = seen / (last_line - start)
                left = (len(shards) - seen) / rate
                print(f"{seen / len(shards):4.0%}  {seen:,} of {len(shards):,} images  {rate:,.0f} images/s  {left:.0f} s left")
            continue
        if seen.mean_image is not None:
            np.save(job_path.with_name(MEAN_IMAGE), seen.mean_image)
        values = seen._asdict()
        del values["mean_image"]
        colours = Colours.model_validate(values)
        write_synced(job_path.with_name(COLOURS), colours.model_dump_json(indent=2) + "\n")
        write_synced(job_path.with_name(COUNTS), json.dumps({"images": colours.num_images}))
        print(f"100%  mean colour {', '.join(f'{value:.1f}' for value in colours.mean)}")


if __name__ == "__main__":
    run_worker(main)
