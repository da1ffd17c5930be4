"""Submissions are written, read as the devkit reads them, and scored by hand."""

import numpy as np
import pytest

from base.errors import InputError
from model.evaluation.answers import Answers
from model.evaluation.submissions import Score, parse_submission, score, write_lines

MATRIX = np.array([[0, 1, 3, 3], [1, 0, 3, 3], [3, 3, 0, 2], [3, 3, 2, 0]], np.uint8)


def parse(text):
    return parse_submission(text, 4, "s.txt").guesses[:, :3].tolist()


def answers(best):
    return Answers([f"key-{n}" for n in range(len(best))], ["n1", "n2", "n3"], np.array(best), None)


def test_lines_are_ilsvrc_ids_in_the_order_of_the_file_names():
    text = write_lines(answers([[0, 1, 2], [2, 1, 0]]), ["val_2.JPEG", "val_10.JPEG"], [30, 10, 20])
    assert text == "20 10 30\n30 10 20\n"


def test_images_with_the_same_name_have_no_order():
    with pytest.raises(InputError, match="two images are called x.jpg; a submission lists images in the order of their names"):
        write_lines(answers([[0], [1], [2]]), ["x.jpg", "a.jpg", "x.jpg"], [1, 2, 3])


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3\n4\n",
        "1 2 3\n4",
        "1 2 3 \r\n4 \r\n",
        "1\t2\t3\n  4\n\n\n",
        "1,2,3\n4,0,0\n",
        "1 2 3 0 0\n4 0 0 0 0\n",
    ],
)
def test_what_the_devkit_reads_is_read(text):
    assert parse(text) == [[1, 2, 3], [4, 0, 0]]


def test_guesses_beyond_the_fifth_are_ignored_and_counted():
    submission = parse_submission("1 2 3 4 1 2\n1\n", 4, "s.txt")
    assert submission.guesses.tolist() == [[1, 2, 3, 4, 1], [1, 0, 0, 0, 0]]
    assert submission.num_long == 1


def test_a_line_of_zeros_has_no_guess():
    assert parse("0\n1\n") == [[0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.txt is empty; expected a line of ILSVRC IDs for each image"),
        ("\n\n", "s.txt is empty"),
        ("1 2\n\n3\n", "s.txt, line 2 is empty; expected up to five ILSVRC IDs, or 0 for no guess"),
        ("1 5\n", "s.txt, line 1: found '5', expected an ILSVRC ID from 1 to 4"),
        ("1\n-1\n", "s.txt, line 2: found '-1', expected an ILSVRC ID from 1 to 4"),
        ("1\n2.5\n", "s.txt, line 2: found '2.5', expected"),
        ("n01440764\n", "s.txt, line 1: found 'n01440764', expected"),
        ("1 ²\n", "s.txt, line 1: found '²', expected"),
        ("0 1 2\n", "line 1: found 0 before another guess; ILSVRC IDs count from 1, class indices from 0: use the IDs"),
        ("1 0 2\n", "line 1: found 0 before another guess"),
    ],
)
def test_a_line_that_is_not_a_guess_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


def test_scores_by_hand():
    submission = parse_submission("1\n3 1\n2 3 4\n0\n", 4, "s.txt")
    scores = score(submission, [1, 1, 4, 2], MATRIX, "s.txt")
    assert scores == [
        Score(1, 4, wrong=3, cost=0 + 3 + 3 + 3),
        Score(2, 4, wrong=2, cost=0 + 0 + 2 + 3),
        Score(3, 4, wrong=1, cost=0 + 0 + 0 + 3),
        Score(4, 4, wrong=1, cost=3),
        Score(5, 4, wrong=1, cost=3),
    ]
    assert (scores[0].flat_error, scores[0].hierarchical_error) == (0.75, 9 / 4)


def test_without_a_cost_matrix_there_is_no_hierarchical_error():
    scores = score(parse_submission("1\n", 4, "s.txt"), [2], None, "s.txt")
    assert (scores[4].wrong, scores[4].cost, scores[4].hierarchical_error) == (1, None, None)


def test_a_submission_for_other_images_is_refused():
    with pytest.raises(InputError, match="s.txt answers 2 images but the truth has 3; expected a line for each image"):
        score(parse_submission("1\n2\n", 4, "s.txt"), [1, 2, 3], MATRIX, "s.txt")
