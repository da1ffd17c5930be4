"""Finished shards to the lists over them: `python -m tasks.workers.close JOB.json`. Started by `tasks.shard`."""

import json
from pathlib import Path

from data_shards.listing import write_lists
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import CHECKSUMS, SetJob


def main(job_path: Path) -> None:
    """Join what the shards have left; the counts come last."""
    job = SetJob.model_validate_json(job_path.read_bytes())
    lists = write_lists(job.open_dataset(), job.directory, job.work)
    write_synced(job.work / CHECKSUMS, json.dumps(lists.files))
    write_synced(job.directory / COUNTS, json.dumps(lists.counts))


if __name__ == "__main__":
    run_worker(main)
