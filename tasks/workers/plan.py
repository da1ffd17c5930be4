"""A split to the plan of its shards: `python -m tasks.workers.plan JOB.json`. Started by `tasks.shard`."""

from pathlib import Path

from data_shards.planning import plan_shards
from tasks.workers.guard import run_worker
from tasks.workers.jobs import SetJob

MAX_ARCHIVES_NAMED = 4


def main(job_path: Path) -> None:
    """Decide what goes where, and say what was found."""
    job = SetJob.model_validate_json(job_path.read_bytes())
    dataset = job.open_dataset()
    print(f"planning the shards of {dataset.name} {job.split}")
    plan = plan_shards(dataset, job.split, job.config, job.work)
    print(f"{plan.num_samples:,} images of {len(dataset.classes()):,} classes into {len(plan):,} shards")
    sources = plan.sources()
    if 1 < len(sources) <= MAX_ARCHIVES_NAMED:
        print("; ".join(f"{count:,} from {name}" for name, count in sources.most_common()))
    expected = dataset.official_count(job.split)
    if expected is not None:
        print(f"the official archives hold {expected:,}")


if __name__ == "__main__":
    run_worker(main)
