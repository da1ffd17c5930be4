"""Submissions scored with the real devkit of ILSVRC-2010, against a reading of its rules image by image."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from base.errors import InputError
from data_shards.datasets.devkit import parse_meta
from tasks.code import ROOT
from tasks.score import score_submission

ARCHIVE = ROOT.parent / "shared" / "data" / "ILSVRC2010_devkit-1.0.tar.gz"
TRUTH = "ILSVRC2010_validation_ground_truth.txt"
needs_devkit = pytest.mark.skipif(not ARCHIVE.exists(), reason=f"the devkit of ILSVRC-2010 is not at {ARCHIVE}")

pytestmark = needs_devkit


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    """The folder `data` of the devkit, unpacked."""
    directory = tmp_path_factory.mktemp("devkit")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(directory, filter="data")
    return next(directory.glob("*/data"))


@pytest.fixture(scope="module")
def truth(devkit):
    return [int(line) for line in (devkit / TRUTH).read_text().split()]


def submitted(tmp_path, lines, end="\n"):
    path = tmp_path / "submission.txt"
    path.write_bytes("".join(" ".join(map(str, line)) + end for line in lines).encode())
    return path


def guesses(truth, seed=0):
    """Mostly wrong guesses of one to five classes."""
    random = np.random.default_rng(seed)
    lines = random.integers(1, 1001, (len(truth), 5))
    right = random.random(len(truth)) < 0.4
    lines[np.flatnonzero(right), random.integers(0, 5, right.sum())] = np.array(truth)[right]
    return [line[:length].tolist() for line, length in zip(lines, random.integers(1, 6, len(truth)), strict=True)]


def by_hand(lines, truth, cost_matrix, num_guesses):
    """The readme's rules, an image at a time."""
    wrong = cost = 0
    for line, true in zip(lines, truth, strict=True):
        tried = line[:num_guesses]
        wrong += true not in tried
        cost += min(int(cost_matrix[guess - 1, true - 1]) for guess in tried)
    return wrong, cost


def test_a_submission_is_scored_as_the_readme_says(devkit, truth, tmp_path):
    lines = guesses(truth)
    record = score_submission.fn(submitted(tmp_path, lines), devkit / TRUTH, devkit / "meta.mat")
    matrix = parse_meta((devkit / "meta.mat").read_bytes(), "meta.mat").cost_matrix
    for score in record.scores:
        assert score.num_images == 50_000
        assert (score.wrong, score.cost) == by_hand(lines, truth, matrix, score.num_guesses)


def test_the_truth_itself_has_no_errors_and_costs_nothing(devkit, truth, tmp_path):
    record = score_submission.fn(submitted(tmp_path, [[true] for true in truth], "  \r\n"), devkit / TRUTH, ARCHIVE)
    assert [(score.flat_error, score.hierarchical_error) for score in record.scores] == [(0, 0)] * 5


def test_one_class_for_all_is_wrong_on_all_but_its_fifty_images(devkit, truth, tmp_path):
    record = score_submission.fn(submitted(tmp_path, [[1]] * 50_000), devkit / TRUTH, devkit / "meta.mat")
    assert {score.wrong for score in record.scores} == {49_950}
    lines = str(record).splitlines()
    assert lines[0].split() == ["guesses", "flat", "error", "wrong", "images", "hierarchical", "error"]
    assert re.fullmatch(r" +1 +0\.9990 +49,950 +50,000 +\d+\.\d{4}", lines[1])


def test_long_lines_are_mentioned(devkit, truth, tmp_path):
    record = score_submission.fn(submitted(tmp_path, [[1, 2, 3, 4, 5, 6]] * 50_000), devkit / TRUTH, devkit / "meta.mat")
    assert str(record).endswith("50,000 lines have more than five guesses; the rest of them was ignored.")


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f | {"submission": write(f["dir"] / "s", b"1\n2\n")}, "s answers 2 images but the truth has 50,000; exp"),
        (
            lambda f: f | {"submission": write(f["dir"] / "s", b"1001\n")},
            "s, line 1: found '1001', expected an ILSVRC ID from 1",
        ),
        (
            lambda f: f | {"submission": write(f["dir"] / "s", b"\xff\xd8\xff\xe0")},
            "s is not a text file; expected lines of IL",
        ),
        (lambda f: f | {"truth": write(f["dir"] / "t", b"0\n")}, "t, line 1: found '0', expected an ILSVRC ID from 1 to 1,000"),
        (lambda f: f | {"meta": write(f["dir"] / "m", b"text")}, "m is not a MATLAB file that can be read"),
        (lambda f: f | {"submission": f["dir"] / "none"}, "no file .*none; expected the path of a submission"),
    ],
)
def test_what_is_not_what_it_should_be_is_refused(devkit, tmp_path, spoil, message):
    files = {"dir": tmp_path, "submission": devkit / TRUTH, "truth": devkit / TRUTH, "meta": devkit / "meta.mat"}
    chosen = {name: path for name, path in spoil(files).items() if name != "dir"}
    with pytest.raises(InputError, match=message):
        score_submission.fn(**chosen)


def test_an_archive_without_a_devkit_is_refused(devkit, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(devkit / TRUTH, TRUTH)
    with pytest.raises(InputError, match="a.tar holds no meta.mat; expected the devkit of ILSVRC-2010 or 2012"):
        score_submission.fn(devkit / TRUTH, devkit / TRUTH, tmp_path / "a.tar")
