"""Some shards of a finished set, read again: `python -m tasks.workers.verify JOB.json SHARE`."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from base.files import write_text
from base.progress import Progress
from data_shards.verifying import verify_shard
from tasks.artifacts import read_manifest
from tasks.job import WORK, Share
from tasks.jobs.verify import VerifyJob
from tasks.workers.entry import run_worker

SHARDS_AT_ONCE = 64
"""Whose rows are held in memory."""


def main(job: VerifyJob, directory: Path, progress: Progress, share: Share) -> None:
    """Write down what is wrong with each shard of the share."""
    manifest = read_manifest(job.shards.path)
    sha256_of = {name: entry.sha256 for name, entry in manifest.files.items()}
    names = share.of(sorted(name for name in sha256_of if name.endswith(".tar")))
    total = pq.read_table(job.shards.path / "samples.parquet", columns=["shard"], filters=[("shard", "in", names)]).num_rows
    done, num_bytes, faults = 0, 0, list[str]()
    for start in range(0, len(names), SHARDS_AT_ONCE):
        some = names[start : start + SHARDS_AT_ONCE]
        listed = pq.read_table(job.shards.path / "samples.parquet", filters=[("shard", "in", some)])
        for name in some:
            rows = listed.filter(pc.equal(listed["shard"], name))
            for fault in verify_shard(rows, job.shards.path, sha256_of, job.decode):
                faults.append(fault)
                progress.say(fault)
            done, num_bytes = done + len(rows), num_bytes + (pc.sum(rows["size"]).as_py() or 0)
            progress.report(done, total, "images", bytes=num_bytes)
    write_text(directory / WORK / f"{share.number}.json", json.dumps(faults))


if __name__ == "__main__":
    run_worker(VerifyJob, main)
