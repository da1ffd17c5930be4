"""A training set's shards to the colours that training subtracts: `python -m tasks.workers.colours JOB.json`."""

import json
from pathlib import Path

from data_shards.colours import measure_colours
from data_shards.shard_set import ShardSet
from model.network.inputs import Colours
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import COLOURS, ColoursJob


def main(job_path: Path) -> None:
    """Measure every pixel of every image."""
    job = ColoursJob.model_validate_json(job_path.read_bytes())
    shards = ShardSet.open(job.shards)
    for seen in measure_colours(shards, job.num_threads):
        if isinstance(seen, int):
            print(f"{seen / len(shards):4.0%}  {seen:,} of {len(shards):,} images")
        else:
            colours = Colours.model_validate(seen._asdict())
            write_synced(job_path.with_name(COLOURS), colours.model_dump_json(indent=2) + "\n")
            write_synced(job_path.with_name(COUNTS), json.dumps({"images": colours.num_images}))
            print(f"100%  mean colour {', '.join(f'{value:.1f}' for value in colours.mean)}")


if __name__ == "__main__":
    run_worker(main)
