"""An archive held against its published MD5: `python -m tasks.workers.checksum JOB.json`. Started by `tasks.shard`."""

import hashlib
import json
from pathlib import Path
from time import perf_counter

from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import ChecksumJob

SECONDS_BETWEEN_LINES = 5.0
CHUNK = 1 << 22


def main(job_path: Path) -> None:
    """Read it once; refuse it where it differs."""
    job = ChecksumJob.model_validate_json(job_path.read_bytes())
    size, done, last_line = job.archive.stat().st_size, 0, perf_counter()
    digest = hashlib.md5(usedforsecurity=False)
    with open(job.archive, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if perf_counter() - last_line >= SECONDS_BETWEEN_LINES:
                last_line = perf_counter()
                print(f"{done / size:4.0%}  {done / 1e9:,.1f} of {size / 1e9:,.1f} GB")
    if digest.hexdigest() != job.md5:
        raise ValueError(f"{job.archive} has the MD5 {digest.hexdigest()}, expected {job.md5}; fetch it again")
    print(f"100%  the MD5 of {job.archive.name} is {job.md5}, as published")
    write_synced(job_path.with_name(COUNTS), json.dumps({"bytes": size}))


if __name__ == "__main__":
    run_worker(main)
