"""What all processes found wrong with a set, as one list: `python -m tasks.workers.faults JOB.json`."""

import json
from pathlib import Path

from base.files import write_text
from base.progress import Progress
from tasks.job import WORK, Share
from tasks.jobs.verify import FAULTS, VerifyJob
from tasks.workers.entry import Counts, run_worker


def main(job: VerifyJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Join the lists that `tasks.workers.verify` left."""
    del progress, share
    faults = sorted(fault for file in (directory / WORK).glob("*.json") for fault in json.loads(file.read_bytes()))
    write_text(directory / FAULTS, json.dumps(faults, indent=2) + "\n")
    return {"images": job.shards.counts["images"], "faults": len(faults)}


if __name__ == "__main__":
    run_worker(VerifyJob, main)
