"""Ranks of the true classes and whole counts of wrong images. Training imports this, so it imports only torch."""

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_BEST = 5
"""[K12 §4.1] Classes that a top-5 answer holds."""


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """How many images were seen, and how many were wrong at rank one and at rank five."""

    num_images: int
    top1_wrong: int
    top5_wrong: int

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.num_images + other.num_images, self.top1_wrong + other.top1_wrong, self.top5_wrong + other.top5_wrong
        )

    @property
    def top1_error(self) -> float:
        """Fraction of images whose most probable class is wrong."""
        return self._rate(self.top1_wrong)

    @property
    def top5_error(self) -> float:
        """Fraction of images whose class is not among the five most probable."""
        return self._rate(self.top5_wrong)

    def _rate(self, wrong: int) -> float:
        if self.num_images == 0:
            raise ValueError("an error rate over zero images; expected at least one image in the split")
        return wrong / self.num_images


def true_ranks(scores: Tensor, class_indices: Tensor) -> Tensor:
    """Return the 1-based rank (N,) of each image's class among `scores` (N, classes).

    Among equal scores the lower class index comes first, as in a list sorted by a stable sort: a network that gives every class
    the same score is right on class 0 only.
    """
    true = scores.gather(1, class_indices[:, None])  # (N, 1)
    classes = torch.arange(scores.shape[1], device=scores.device)
    ahead = (scores > true) | ((scores == true) & (classes < class_indices[:, None]))
    return ahead.sum(dim=1) + 1


def best_classes(scores: Tensor, num: int) -> Tensor:
    """Return the `num` best classes (N, num) of each image by `scores` (N, classes), best first; ties as in `true_ranks`.

    If there are fewer classes, all of them are returned.
    """
    num_classes = scores.shape[1]
    num = min(num, num_classes)
    values, classes = scores.topk(min(num + 1, num_classes), dim=1)  # one more, to see whether the last is tied
    best, order = classes[:, :num].sort(dim=1)  # a stable sort by value then keeps equal ones in the order of their classes
    order = values[:, :num].gather(1, order).argsort(dim=1, descending=True, stable=True)
    best = best.gather(1, order)
    if num < num_classes:
        tied = values[:, num - 1] == values[:, num]  # topk does not say which of equal ones it returns
        best[tied] = scores[tied].argsort(dim=1, descending=True, stable=True)[:, :num]
    return best


def count_errors(scores: Tensor, class_indices: Tensor) -> ErrorCounts:
    """Count the wrong images of a batch of logits or probabilities (N, classes)."""
    ranks = true_ranks(scores, class_indices)
    return ErrorCounts(len(ranks), int((ranks > 1).sum()), int((ranks > NUM_BEST).sum()))
