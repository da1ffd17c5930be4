"""An archive compared with its published MD5: `python -m tasks.workers.checksum JOB.json`."""

import hashlib
from pathlib import Path

from base.errors import InputError
from base.progress import Progress
from tasks.job import Share
from tasks.jobs.checksum import ChecksumJob
from tasks.workers.entry import Counts, run_worker

CHUNK = 1 << 22


def main(job: ChecksumJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Read the archive once.

    Raises:
        InputError: it differs.
    """
    del directory, share
    size, done = job.path.stat().st_size, 0
    digest = hashlib.md5(usedforsecurity=False)
    with open(job.path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress.report(done, size, "bytes")
    if digest.hexdigest() != job.md5:
        raise InputError(f"{job.path} has the MD5 {digest.hexdigest()}, expected {job.md5}; download it again")
    progress.say(f"the MD5 of {job.path.name} is {job.md5}, as published")
    return {"bytes": size}


if __name__ == "__main__":
    run_worker(ChecksumJob, main)
