"""Sets to the images that occur more than once: `python -m tasks.workers.duplicates JOB.json`. Started by `tasks.verify`."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from data_shards.duplicates import count_duplicates, find_duplicates
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import DUPLICATES, DuplicatesJob


def main(job_path: Path) -> None:
    """Compare the digests of the original files."""
    job = DuplicatesJob.model_validate_json(job_path.read_bytes())
    print(f"  0%  looking for equal images in {', '.join(job.sets)}")
    duplicates = find_duplicates(job.sets)
    counts = count_duplicates(duplicates)
    pq.write_table(duplicates, job_path.with_name(DUPLICATES))
    write_synced(job_path.with_name(COUNTS), json.dumps(counts))
    print("100%  " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))


if __name__ == "__main__":
    run_worker(main)
