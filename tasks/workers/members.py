"""An archive to the list of its images: `python -m tasks.workers.members JOB.json`."""

from pathlib import Path

from base.errors import InputError
from base.progress import Progress
from data_shards.datasets.scanning import Scan, write_members
from tasks.job import Share
from tasks.jobs.members import MEMBERS, MembersJob
from tasks.workers.entry import Counts, run_worker


def main(job: MembersJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Scan the archive once, from end to end."""
    del share
    scan, num_images = Scan(job.root), 0
    for num_images in write_members(scan, directory / MEMBERS):
        progress.report(scan.done, 1, "", f"{num_images:,} images so far")
    if not num_images:
        what = f"no image, but {scan.ignored}" if scan.ignored else "nothing"
        raise InputError(f"{job.root} holds {what}; expected an archive of JPEGs, or of one tar per class")
    ignored = {f"ignored {kind}": count for kind, count in sorted(scan.ignored.items())}
    progress.say(f"{num_images:,} images" + (f"; passed over {scan.ignored}" if scan.ignored else ""))
    return {"images": num_images, **ignored}


if __name__ == "__main__":
    run_worker(MembersJob, main)
