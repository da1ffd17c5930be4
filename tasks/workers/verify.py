"""Some shards of a finished set, read again: `python -m tasks.workers.verify JOB.json`. Started by `tasks.verify`."""

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_shards.verifying import verify_shard
from tasks.artifacts import read_manifest
from tasks.workers.guard import run_worker
from tasks.workers.jobs import VerifyJob

SHARDS_AT_ONCE = 64
"""Whose rows are held in memory."""


def main(job_path: Path) -> None:
    """After each shard print what is wrong with it, `! fault`, and a line of progress, `+ images bytes_read`."""
    job = VerifyJob.model_validate_json(job_path.read_bytes())
    sha256_of = {name: entry.sha256 for name, entry in read_manifest(job.directory).files.items()}
    for start in range(0, len(job.shards), SHARDS_AT_ONCE):
        names = job.shards[start : start + SHARDS_AT_ONCE]
        listed = pq.read_table(job.directory / "samples.parquet", filters=[("shard", "in", names)])
        for name in names:
            rows = listed.filter(pc.equal(listed["shard"], name))
            for fault in verify_shard(rows, job.directory, sha256_of, job.decode):
                print(f"! {fault}")
            print(f"+ {len(rows)} {pc.sum(rows['size'])}")


if __name__ == "__main__":
    run_worker(main)
