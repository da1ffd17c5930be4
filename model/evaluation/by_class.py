"""Errors class by class, and what each class is taken for. Called by `model.evaluation.tables`."""

from typing import NamedTuple

import numpy as np

from model.evaluation.answers import NUM_BEST, Answers, Labels

NUM_CONFUSED = 5
"""(ours) How many wrong classes are named."""


class ClassErrors(NamedTuple):
    """One class's images, and what they were taken for."""

    wnid: str
    num_images: int
    top1_wrong: int
    top5_wrong: int
    confused_wnids: list[str]
    """The wrong first answers, the most frequent first."""
    confused_images: list[int]
    """How many images each of them got."""


def errors_by_class(answers: Answers, labels: Labels) -> list[ClassErrors]:
    """Return every class's errors, in the order of the class index."""
    num_classes = len(answers.wnids)
    true, guess = labels.class_indices, answers.best[:, 0]
    images, top1, top5 = (
        np.bincount(true[chosen], minlength=num_classes)
        for chosen in (np.ones(len(true), bool), labels.ranks > 1, labels.ranks > NUM_BEST)
    )
    wrong = labels.ranks > 1
    pairs, counts = np.unique(true[wrong] * num_classes + guess[wrong], return_counts=True)  # in the order of class indices
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
