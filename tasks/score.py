"""A submitted file and the truth to its scores."""

import tarfile
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.context import TaskRunContext
from pydantic import BaseModel, ConfigDict

from base.errors import InputError
from data_shards.datasets.devkit import Devkit, parse_ground_truth, parse_meta
from model.evaluation.submissions import Score, parse_submission, score

META = "meta.mat"


class ScoreRecord(BaseModel):
    """Flat and hierarchical error with one guess an image to five."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scores: list[Score]
    note: str | None

    def __str__(self) -> str:
        heading = f"{'guesses':>7}  {'flat error':>10}  {'wrong':>9}  {'images':>9}  {'hierarchical error':>18}"
        lines = [_line(score) for score in self.scores]
        return "\n".join((heading, *lines, *(("", self.note) if self.note else ())))


@task(task_run_name="score {submission.name}")
def score_submission(submission: Path, truth: Path, meta: Path) -> ScoreRecord:
    """Score a submission against a truth file of the same devkit.

    Raises:
        InputError: a file is missing, cannot be read or does not have the expected form.
    """
    for path in (submission, truth, meta):
        if not path.expanduser().is_file():
            raise InputError(f"no file {path}; expected the path of a submission, of its truth and of the devkit's meta.mat")
    devkit = _read_devkit(meta.expanduser())
    submitted = parse_submission(_read(submission), len(devkit.leaves), str(submission))
    scores = score(submitted, _true_ids(truth, devkit), devkit.cost_matrix, str(submission))
    record = ScoreRecord(scores=scores, note=_note(submitted.num_long, devkit))
    if TaskRunContext.get() is not None:
        cells = [dict(zip(Score._fields, row, strict=True)) for row in scores]
        create_table_artifact(cells, key="submission-scores", description=str(record))
    return record


def _read_devkit(path: Path) -> Devkit:
    """What a devkit's `meta.mat` says; `path` is that file, or the devkit's archive."""
    if not tarfile.is_tarfile(path):
        return parse_meta(path.read_bytes(), str(path))
    with tarfile.open(path) as tar:
        for member in tar:
            data = tar.extractfile(member) if Path(member.name).name == META else None
            if data is not None:
                return parse_meta(data.read(), f"{META} in {path}")
    raise InputError(f"{path} holds no {META}; expected the devkit of ILSVRC-2010 or 2012")


def _true_ids(truth: Path, devkit: Devkit) -> list[int]:
    text = _read(truth)
    wnids = parse_ground_truth(text, devkit, len(text.split()), str(truth))
    return [devkit.ilsvrc_ids[wnid] for wnid in wnids]


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file; expected lines of ILSVRC IDs") from error


def _note(num_long: int, devkit: Devkit) -> str | None:
    notes = [f"{num_long:,} lines have more than five guesses; the rest of them was ignored."] if num_long else []
    if devkit.cost_matrix is None:
        notes.append("This devkit has no cost matrix, so there is no hierarchical error.")
    return " ".join(notes) or None


def _line(score: Score) -> str:
    hierarchical = "–" if score.hierarchical_error is None else f"{score.hierarchical_error:.4f}"
    counts = f"{score.wrong:>9,}  {score.num_images:>9,}"
    return f"{score.num_guesses:>7}  {score.flat_error:>10.4f}  {counts}  {hierarchical:>18}"
