"""A split to the plan of its shards: `python -m tasks.workers.plan JOB.json`."""

import json
import shutil
from pathlib import Path

from base.files import write_text
from base.progress import Progress
from data_shards.planning import PLAN_FILE, plan_shards
from tasks.job import JOB, WORK, Share
from tasks.jobs.shard import BAD, ShardJob
from tasks.workers.entry import run_worker

MAX_ARCHIVES_NAMED = 4

PASSED_OVER = "passed_over.json"
"""In the scratch space: the number of files of each kind that are not stored, for the counts of the set."""


def main(job: ShardJob, directory: Path, progress: Progress, share: Share) -> None:
    """Decide which image goes into which shard, and say what was found; a plan that exists is kept."""
    del share
    work = directory / WORK
    shutil.rmtree(work / BAD, ignore_errors=True)  # of a run that bad images ended
    if (work / PLAN_FILE).exists():
        return
    _clear(directory)
    dataset = job.open_dataset()
    progress.say(f"planning the shards of {dataset.name} {job.split}")
    passed = dataset.passed_over(job.split)
    write_text(work / PASSED_OVER, json.dumps(passed))
    if found := dataset.found(job.split):
        progress.say(found)
    plan = plan_shards(dataset, job.split, job, work)
    progress.say(
        f"{plan.num_samples:,} images of {len(dataset.classes()):,} classes into {len(plan):,} shard{'s' * (len(plan) != 1)}"
    )
    if passed:
        progress.say(f"passed over {passed}")
    sources = plan.sources()
    if 1 < len(sources) <= MAX_ARCHIVES_NAMED:
        progress.say("; ".join(f"{count:,} from {name}" for name, count in sources.most_common()))
    expected = dataset.official_count(job.split)
    if expected is not None:
        progress.say(f"the official archives hold {expected:,}")


def _clear(directory: Path) -> None:
    """Remove everything but the job: without a plan nothing says what it is."""
    for path in [*directory.iterdir(), *(directory / WORK).iterdir()]:
        if path.name not in (JOB, WORK):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    run_worker(ShardJob, main)
