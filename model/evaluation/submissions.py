"""Answers to the text files that ILSVRC took, and such files to scores, as the devkit's `eval_flat` and `eval_hie` count them.

A line an image in the order of the file names, up to five ILSVRC IDs, best first. [devkit-1.0 readme]
Written by `tasks.submit`, scored by `tasks.score`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.evaluation.answers import NUM_BEST, Answers
from model.evaluation.hierarchical import Integers, total_costs


class Submission(NamedTuple):
    """What a submitted file says."""

    guesses: Integers
    """(N, 5) ILSVRC IDs, best first, 0 where a line has fewer."""
    num_long: int
    """Lines with more than five, of which the rest is passed over, as the devkit does."""


class Score(NamedTuple):
    """What a number of guesses an image earns."""

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
        """Mean cost of an image."""
        return None if self.cost is None else self.cost / self.num_images


def write_lines(answers: Answers, names: Sequence[str], ilsvrc_ids: Sequence[int]) -> str:
    """Return the submission for images called `names`, in the order of the answers; `ilsvrc_ids` has one ID a class index.

    Raises:
        ValueError: two images of one name, which have no order.
    """
    if len(set(names)) != len(names):
        twice = next(name for n, name in enumerate(sorted(names)[1:]) if sorted(names)[n] == name)
        raise ValueError(f"two images are called {twice}; a submission lists images in the order of their names")
    ids = np.array(ilsvrc_ids)[answers.best]
    order = sorted(range(len(names)), key=lambda n: names[n])
    return "".join(" ".join(map(str, ids[n])) + "\n" for n in order)


def parse_submission(text: str, num_classes: int, name: str) -> Submission:
    """Return a submission's guesses. Blanks at the ends of lines, CRLF, commas, tabs and empty last lines do no harm.

    Raises:
        ValueError: a line without guesses, or something that is not an ILSVRC ID.
    """
    lines = [line.replace(",", " ").split() for line in text.rstrip().splitlines()]
    if not lines:
        raise ValueError(f"{name} is empty; expected a line of ILSVRC IDs for each image")
    guesses = np.zeros((len(lines), NUM_BEST), np.int64)
    for number, words in enumerate(lines, start=1):
        ids = _ids(words, num_classes, f"{name}, line {number:,}")[:NUM_BEST]
        guesses[number - 1, : len(ids)] = ids
    return Submission(guesses, sum(len(words) > NUM_BEST for words in lines))


def score(submission: Submission, true_ids: Sequence[int], cost_matrix: NDArray[np.uint8] | None, name: str) -> list[Score]:
    """Return the errors with one guess to five; the truth has one ILSVRC ID an image.

    Raises:
        ValueError: the truth is of another number of images.
    """
    guesses, true = submission.guesses, np.array(true_ids)
    if len(guesses) != len(true):
        raise ValueError(
            f"{name} answers {len(guesses):,} images but the truth knows {len(true):,}; expected a line for each image, in the "
            f"order of the file names"
        )
    wrong = len(true) - np.logical_or.accumulate(guesses == true[:, None], axis=1).sum(axis=0)
    costs: list[int | None] = [None] * NUM_BEST
    if cost_matrix is not None:
        places = np.where(guesses == 0, len(cost_matrix), guesses - 1)
        costs = [int(total) for total in total_costs(places, true - 1, cost_matrix)]
    return [Score(n + 1, len(true), int(wrong[n]), costs[n]) for n in range(NUM_BEST)]


def _ids(words: Sequence[str], num_classes: int, place: str) -> list[int]:
    """The guesses of a line; zeros may only fill up its end."""
    if not words:
        raise ValueError(f"{place} is empty; expected up to five ILSVRC IDs, or 0 for no guess")
    if not all(word.isascii() and word.isdigit() and int(word) <= num_classes for word in words):
        found = next(word for word in words if not (word.isascii() and word.isdigit() and int(word) <= num_classes))
        raise ValueError(f"{place}: found {found[:20]!r}, expected an ILSVRC ID from 1 to {num_classes:,}")
    ids = [int(word) for word in words]
    guessed = [number for number in ids if number]
    if ids[: len(guessed)] != guessed:
        raise ValueError(f"{place}: found 0 before another guess; ILSVRC IDs count from 1, class indices from 0: use the IDs")
    return guessed
