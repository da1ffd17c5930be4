"""A split to the plan of its shards: `python -m tasks.workers.plan JOB.json`."""

from pathlib import Path

from base.progress import Progress
from data_shards.planning import PLAN_FILE, plan_shards
from tasks.job import WORK, Share
from tasks.jobs.shard import ShardJob
from tasks.workers.entry import run_worker

MAX_ARCHIVES_NAMED = 4


def main(job: ShardJob, directory: Path, progress: Progress, share: Share) -> None:
    """Decide which image goes into which shard, and say what was found; a plan that exists is kept."""
    del share
    work = directory / WORK
    if (work / PLAN_FILE).exists():
        return
    dataset = job.open_dataset()
    progress.say(f"planning the shards of {dataset.name} {job.split}")
    plan = plan_shards(dataset, job.split, job, work)
    progress.say(f"{plan.num_samples:,} images of {len(dataset.classes()):,} classes into {len(plan):,} shards")
    sources = plan.sources()
    if 1 < len(sources) <= MAX_ARCHIVES_NAMED:
        progress.say("; ".join(f"{count:,} from {name}" for name, count in sources.most_common()))
    expected = dataset.official_count(job.split)
    if expected is not None:
        progress.say(f"the official archives hold {expected:,}")


if __name__ == "__main__":
    run_worker(ShardJob, main)
