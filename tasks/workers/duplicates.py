"""Sets to the images that they hold more than once: `python -m tasks.workers.duplicates JOB.json`."""

from pathlib import Path

import pyarrow.parquet as pq

from base.progress import Progress
from data_shards.duplicates import count_duplicates, find_duplicates
from tasks.job import Share
from tasks.jobs.duplicates import DUPLICATES, DuplicatesJob
from tasks.workers.entry import Counts, run_worker


def main(job: DuplicatesJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Compare the digests of the source files."""
    del share
    progress.say(f"looking for equal images in {', '.join(job.sets)}")
    duplicates = find_duplicates({name: shards.path for name, shards in job.sets.items()})
    counts = count_duplicates(duplicates)
    pq.write_table(duplicates, directory / DUPLICATES)
    progress.say(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
    return counts


if __name__ == "__main__":
    run_worker(DuplicatesJob, main)
