"""Errors per class, and the classes that each class is confused with. Called by `model.evaluation.rows`."""

from typing import NamedTuple

import numpy as np

from model.evaluation.answers import Answers, Labels
from model.evaluation.error_rates import NUM_BEST

NUM_CONFUSED = 5
"""(ours) How many wrong classes are listed."""


class ClassErrors(NamedTuple):
    """The images of one class, and the wrong answers for them."""

    wnid: str
    num_images: int
    top1_wrong: int
    top5_wrong: int
    confused_wnids: list[str]
    """The wrong first answers, the most frequent first."""
    confused_images: list[int]
    """How many images each of them got."""


def errors_by_class(answers: Answers, labels: Labels) -> list[ClassErrors]:
    """Return the errors of every class, in the order of the class index."""
    num_classes = len(answers.wnids)
    true, guess = labels.class_indices, answers.best[:, 0]
    images, top1, top5 = (
        np.bincount(true[chosen], minlength=num_classes)
        for chosen in (np.ones(len(true), bool), labels.ranks > 1, labels.ranks > NUM_BEST)
    )
    wrong = labels.ranks > 1
    pairs, counts = np.unique(true[wrong] * num_classes + guess[wrong], return_counts=True)  # sorted by class indices
    confused: list[list[tuple[str, int]]] = [[] for _ in range(num_classes)]
    for n in np.argsort(-counts, kind="stable"):
        confused[pairs[n] // num_classes].append((answers.wnids[pairs[n] % num_classes], int(counts[n])))
    return [
        ClassErrors(
            wnid,
            int(images[n]),
            int(top1[n]),
            int(top5[n]),
            [name for name, _ in confused[n][:NUM_CONFUSED]],
            [count for _, count in confused[n][:NUM_CONFUSED]],
        )
        for n, wnid in enumerate(answers.wnids)
    ]
