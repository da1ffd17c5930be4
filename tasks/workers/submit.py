"""Predictions to the text file that ILSVRC took: `python -m tasks.workers.submit JOB.json`."""

from pathlib import Path

from base.errors import InputError
from base.files import write_text
from base.progress import Progress
from data_shards.shard_set import ShardSet
from model.evaluation.answers import Answers
from model.evaluation.ensembles import Mix, average
from model.evaluation.predictions import open_predictions
from model.evaluation.submissions import write_lines
from tasks.job import Share
from tasks.jobs.predict import PREDICTIONS
from tasks.jobs.submit import SUBMISSION, SubmitJob
from tasks.workers.entry import Counts, run_worker


def main(job: SubmitJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Average the networks, and write one line per image."""
    del progress, share
    text = _lines(_answers(job), ShardSet.open(job.shards.path))
    write_text(directory / SUBMISSION, text)
    return {"images": text.count("\n"), "networks": len(job.predictions)}


def _answers(job: SubmitJob) -> Answers:
    files = [open_predictions(predictions.path / PREDICTIONS) for predictions in job.predictions]
    return files[0].answers() if len(files) == 1 else average(files, [Mix(tuple(range(len(files))))])[0]


def _lines(answers: Answers, shards: ShardSet) -> str:
    ids = shards.classes["ilsvrc_id"]
    if ids.isna().any():
        raise InputError(
            f"the classes of {shards.directory} have no ILSVRC IDs, by which a submission names them; expected images of "
            f"ILSVRC-2010 or 2012 sharded from the official archives"
        )
    return write_lines(answers, list(shards.samples["name"]), [int(number) for number in ids])


if __name__ == "__main__":
    run_worker(SubmitJob, main)
