"""A training set's shards to the colours that training subtracts: `python -m tasks.workers.colours JOB.json`."""

from pathlib import Path

import numpy as np

from base.files import write_text
from base.progress import Progress
from data_shards.colours import measure_colours
from data_shards.shard_set import ShardSet
from model.network.inputs import Colours
from tasks.job import Share
from tasks.jobs.colours import COLOURS, MEAN_IMAGE, ColoursJob
from tasks.workers.entry import Counts, run_worker


def main(job: ColoursJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Measure every pixel of every image."""
    del share
    shards = ShardSet.open(job.shards.path)
    measured = measure_colours(shards, job.num_threads, lambda seen: progress.report(seen, len(shards), "images"))
    if measured.mean_image is not None:
        np.save(directory / MEAN_IMAGE, measured.mean_image)
    values = measured._asdict()
    del values["mean_image"]
    colours = Colours.model_validate(values)
    write_text(directory / COLOURS, colours.model_dump_json(indent=2) + "\n")
    progress.say(f"mean colour {', '.join(f'{value:.1f}' for value in colours.mean)}")
    return {"images": colours.num_images}


if __name__ == "__main__":
    run_worker(ColoursJob, main)
