"""The vectors of a split, checked: `python -m tasks.workers.embedded JOB.json ...`. Every image has one vector, in order."""

from collections.abc import Mapping
from pathlib import Path

from base.progress import Progress
from data_shards.shard_set import ShardSet
from model.retrieval.vectors import open_vectors
from tasks.job import Share
from tasks.jobs.embed import EmbedJob, vectors_path
from tasks.workers.entry import finish, run_together


def main(jobs: Mapping[Path, EmbedJob], progress: Progress, share: Share) -> None:
    """Count the vectors of every job.

    Raises:
        RuntimeError: the vectors are not those of the images.
    """
    del progress, share
    for directory, job in jobs.items():
        samples = ShardSet.open(job.shards.path).samples
        vectors = open_vectors([vectors_path(directory, str(name)) for name in samples["shard"].unique()])
        if vectors.keys.to_pylist() != list(samples["key"]):
            raise RuntimeError(f"{directory} holds {len(vectors):,} vectors, expected one for each of {len(samples):,} images")
        finish(directory, {"images": len(vectors), "values": vectors.num_values})


if __name__ == "__main__":
    run_together(EmbedJob, main)
