"""Predictions to the text file that ILSVRC took."""

from collections.abc import Sequence

from prefect import task

from data_shards.datasets.dataset import Split
from tasks.job import Artifact
from tasks.jobs.submit import SubmitJob
from tasks.make import make
from tasks.shard import dataset_name
from tasks.workspace import Workspace


@task(task_run_name="write a submission")
def write_submission(predictions: Sequence[Artifact], shards: Artifact, split: Split, workspace: Workspace) -> Artifact:
    """Write what one network or the average of several predicts for every image: `submissions/<dataset>-<split>/<key>`.

    Raises:
        InputError: the classes have no ILSVRC IDs, or the images have no order.
    """
    members = tuple(sorted(predictions, key=lambda artifact: artifact.digest))
    return make([SubmitJob(predictions=members, shards=shards, dataset=dataset_name(shards), split=split)], workspace)[0]
