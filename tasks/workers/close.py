"""Finished shards to the lists over them: `python -m tasks.workers.close JOB.json`."""

import json
from pathlib import Path

from base.files import write_text
from base.progress import Progress
from data_shards.listing import write_lists
from tasks.job import CHECKSUMS, WORK, Share
from tasks.jobs.shard import ShardJob
from tasks.workers.entry import Counts, run_worker


def main(job: ShardJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Join what the shards have left."""
    del progress, share
    lists = write_lists(job.open_dataset(), directory, directory / WORK)
    write_text(directory / WORK / CHECKSUMS, json.dumps(lists.files))
    return lists.counts


if __name__ == "__main__":
    run_worker(ShardJob, main)
