"""Finished shards to the lists over them: `python -m tasks.workers.close JOB.json`."""

import json
from pathlib import Path

from base.files import write_text
from base.progress import Progress
from data_shards.listing import classes_without_images, write_lists
from tasks.job import CHECKSUMS, WORK, Share
from tasks.jobs.shard import ShardJob
from tasks.workers.entry import Counts, run_worker
from tasks.workers.plan import PASSED_OVER


def main(job: ShardJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Join what the shards have left; count the files that were passed over, and the classes whose images were all bad."""
    del share
    work = directory / WORK
    lists = write_lists(job.open_dataset(), directory, work)
    write_text(work / CHECKSUMS, json.dumps(lists.files))
    counts = lists.counts | {f"ignored {kind}": count for kind, count in json.loads((work / PASSED_OVER).read_bytes()).items()}
    if empty := classes_without_images(directory):
        progress.say(
            f"classes without an image: {len(empty):,}, such as {empty[0]}; bad_images.parquet lists what could not be read"
        )
        counts["classes_without_images"] = len(empty)
    return counts


if __name__ == "__main__":
    run_worker(ShardJob, main)
