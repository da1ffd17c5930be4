"""A submission and the truth to its scores: `python -m flows.score --help`."""

from pathlib import Path

from prefect import flow

from flows.command_line import run
from tasks.score import ScoreRecord, score_submission


@flow(flow_run_name="score {submission.name}")
def score(submission: Path, truth: Path, meta: Path) -> ScoreRecord:
    """Score a file of ILSVRC's form: flat error with one guess to five and, for 2010, the hierarchical error.

    Args:
        submission: Text file, a line an image in the order of the file names: up to five ILSVRC IDs, best first.
        truth: Text file, one ILSVRC ID a line, such as the devkit's ILSVRC2010_validation_ground_truth.txt.
        meta: The devkit's meta.mat, or its archive.
    """
    return score_submission(submission, truth, meta)


if __name__ == "__main__":
    run(score)
