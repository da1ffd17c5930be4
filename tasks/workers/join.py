"""The predictions of every shard to one file per network: `python -m tasks.workers.join JOB.json ...`.

The parts are joined in the order of the shards, and must be their images, each once.
"""

from collections.abc import Mapping
from pathlib import Path

from base.progress import Progress
from data_shards.shard_set import ShardSet
from model.evaluation.predictions import join_parts, open_predictions
from tasks.job import Share
from tasks.jobs.predict import PREDICTIONS, PredictJob, part_path
from tasks.workers.entry import finish, run_together


def main(jobs: Mapping[Path, PredictJob], progress: Progress, share: Share) -> None:
    """Join the parts of every network, and count what is wrong."""
    del share
    for number, (directory, job) in enumerate(jobs.items()):
        shards = ShardSet.open(job.shards.path)
        parts = [part_path(directory, str(name)) for name in shards.samples["shard"].unique()]
        join_parts(parts, list(shards.samples["key"]), directory / PREDICTIONS)
        counts = open_predictions(directory / PREDICTIONS).answers().count_errors()
        summary = {"images": len(shards)}
        if counts is not None:
            summary |= {"top1_wrong": counts.top1_wrong, "top5_wrong": counts.top5_wrong}
        finish(directory, summary)
        progress.report(number + 1, len(jobs), "files")


if __name__ == "__main__":
    run_together(PredictJob, main)
