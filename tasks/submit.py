"""Predictions to the text file that ILSVRC took: `submissions/<dataset>-<split>/<digest>/submission.txt`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from prefect import task

from data_shards.shard_set import ShardSet
from model.evaluation.answers import Answers
from model.evaluation.ensembles import Mix, average
from model.evaluation.predictions import open_predictions
from model.evaluation.submissions import write_lines
from tasks.artifacts import Artifact, begin, find, location, publish, recipe
from tasks.predict import predictions_file

SUBMISSION = "submission.txt"


@task(task_run_name="write a submission")
def write_submission(predictions: Sequence[Artifact], shards: Artifact, parent: Path) -> Artifact:
    """Write what one network or the average of several says of every image, or find it.

    Raises:
        ValueError: the classes have no ILSVRC IDs, or the images have no order.
    """
    inputs = {"predictions": sorted(artifact.digest for artifact in predictions), "shards": shards.digest}
    made_from = recipe(inputs, {}, "model.evaluation")
    path = location(parent, made_from)
    found = find(path)
    if found is not None:
        return found
    text = _lines(_answers(predictions), ShardSet.open(shards.path))
    (begin(path) / SUBMISSION).write_text(text, encoding="ascii")
    return publish(path, made_from, {"images": text.count("\n"), "networks": len(predictions)})


def _answers(predictions: Sequence[Artifact]) -> Answers:
    files = [open_predictions(predictions_file(artifact)) for artifact in predictions]
    return files[0].answers() if len(files) == 1 else average(files, [Mix(tuple(range(len(files))))])[0]


def _lines(answers: Answers, shards: ShardSet) -> str:
    ids: pd.Series[int] = shards.classes["ilsvrc_id"]
    if ids.isna().any():
        raise ValueError(
            f"the classes of {shards.directory} have no ILSVRC IDs, by which a submission names them; expected images of "
            f"ILSVRC-2010 or 2012 sharded from the official archives"
        )
    return write_lines(answers, list(shards.samples["name"]), [int(number) for number in ids])
