"""Write answers as the text files that ILSVRC accepted, and score such files as the devkit's `eval_flat` and `eval_hie` do.

One line per image in the order of the file names, with up to five ILSVRC IDs, best first. [devkit-1.0 readme]
`tasks.submit` writes them, `tasks.score` scores them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from base.errors import InputError
from model.evaluation.answers import Answers
from model.evaluation.error_rates import NUM_BEST
from model.evaluation.hierarchical import CostMatrix, Integers, total_costs


class Submission(NamedTuple):
    """The guesses of a submitted file."""

    guesses: Integers
    """(N, 5) ILSVRC IDs, best first; 0 if a line has fewer."""
    num_long: int
    """Lines with more than five guesses; the rest is ignored, as in the devkit."""


class Score(NamedTuple):
    """The errors with a number of guesses per image."""

    num_guesses: int
    num_images: int
    wrong: int
    """Images whose class is not among the guesses."""
    cost: int | None
    """Hierarchical cost, summed over all images; None without a cost matrix."""

    @property
    def flat_error(self) -> float:
        """Fraction of images that are wrong."""
        return self.wrong / self.num_images

    @property
    def hierarchical_error(self) -> float | None:
        """Mean cost per image."""
        return None if self.cost is None else self.cost / self.num_images


def write_lines(answers: Answers, names: Sequence[str], ilsvrc_ids: Sequence[int]) -> str:
    """Return the text of a submission.

    `names` are the file names of the images in the order of the answers; `ilsvrc_ids` has one ID per class index.

    Raises:
        InputError: two images have the same name, so that they have no order.
    """
    if len(set(names)) != len(names):
        twice = next(name for n, name in enumerate(sorted(names)[1:]) if sorted(names)[n] == name)
        raise InputError(f"two images are called {twice}; a submission lists images in the order of their names")
    ids = np.array(ilsvrc_ids)[answers.best]
    order = sorted(range(len(names)), key=lambda n: names[n])
    return "".join(" ".join(map(str, ids[n])) + "\n" for n in order)


def parse_submission(text: str, num_classes: int, name: str) -> Submission:
    """Return the guesses of a submission. Blanks at the ends of lines, CRLF, commas, tabs and empty last lines are accepted.

    Raises:
        InputError: a line has no guesses, or a word is not an ILSVRC ID.
    """
    lines = [line.replace(",", " ").split() for line in text.rstrip().splitlines()]
    if not lines:
        raise InputError(f"{name} is empty; expected a line of ILSVRC IDs for each image")
    guesses = np.zeros((len(lines), NUM_BEST), np.int64)
    for number, words in enumerate(lines, start=1):
        ids = _ids(words, num_classes, f"{name}, line {number:,}")[:NUM_BEST]
        guesses[number - 1, : len(ids)] = ids
    return Submission(guesses, sum(len(words) > NUM_BEST for words in lines))


def score(submission: Submission, true_ids: Sequence[int], cost_matrix: CostMatrix | None, name: str) -> list[Score]:
    """Return the errors with one to five guesses; `true_ids` has one ILSVRC ID per image.

    Raises:
        InputError: submission and truth have different numbers of images.
    """
    guesses, true = submission.guesses, np.array(true_ids)
    if len(guesses) != len(true):
        raise InputError(
            f"{name} answers {len(guesses):,} images but the truth has {len(true):,}; expected a line for each image, in the "
            f"order of the file names"
        )
    wrong = len(true) - np.logical_or.accumulate(guesses == true[:, None], axis=1).sum(axis=0)
    costs: list[int | None] = [None] * NUM_BEST
    if cost_matrix is not None:
        places = np.where(guesses == 0, len(cost_matrix), guesses - 1)
        costs = [int(total) for total in total_costs(places, true - 1, cost_matrix)]
    return [Score(n + 1, len(true), int(wrong[n]), costs[n]) for n in range(NUM_BEST)]


def _ids(words: Sequence[str], num_classes: int, place: str) -> list[int]:
    """Return the guesses of a line; zeros may only fill its end."""
    if not words:
        raise InputError(f"{place} is empty; expected up to five ILSVRC IDs, or 0 for no guess")
    if not all(word.isascii() and word.isdigit() and int(word) <= num_classes for word in words):
        found = next(word for word in words if not (word.isascii() and word.isdigit() and int(word) <= num_classes))
        raise InputError(f"{place}: found {found[:20]!r}, expected an ILSVRC ID from 1 to {num_classes:,}")
    ids = [int(word) for word in words]
    guessed = [number for number in ids if number]
    if ids[: len(guessed)] != guessed:
        raise InputError(f"{place}: found 0 before another guess; ILSVRC IDs count from 1, class indices from 0: use the IDs")
    return guessed
