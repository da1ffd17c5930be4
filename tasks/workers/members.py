"""An archive to the list of what lies in it: `python -m tasks.workers.members JOB.json`. Started by `tasks.shard`."""

import json
from pathlib import Path
from time import perf_counter

from data_shards.datasets.members import Scan, write_members
from tasks.artifacts import COUNTS, write_synced
from tasks.workers.guard import run_worker
from tasks.workers.jobs import MEMBERS, MembersJob

SECONDS_BETWEEN_LINES = 5.0


def main(job_path: Path) -> None:
    """Scan once, from end to end."""
    job = MembersJob.model_validate_json(job_path.read_bytes())
    scan = Scan(job.root)
    num_images, last_line = 0, perf_counter()
    print(f"  0%  listing what lies in {job.root}")
    for num_images in write_members(scan, job_path.with_name(MEMBERS)):
        if perf_counter() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = perf_counter()
            print(f"{scan.done:4.0%}  {num_images:,} images so far")
    if not num_images:
        raise ValueError(f"{job.root} holds no image; expected an archive of JPEGs, or of one tar a class")
    ignored = {f"ignored {kind}": count for kind, count in sorted(scan.ignored.items())}
    print(f"100%  {num_images:,} images" + "".join(f", {count:,} {kind}" for kind, count in ignored.items()))
    write_synced(job_path.with_name(COUNTS), json.dumps({"images": num_images, **ignored}))


if __name__ == "__main__":
    run_worker(main)
