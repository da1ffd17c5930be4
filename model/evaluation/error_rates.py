"""Whole counts of wrong images, and the rates, intervals and log losses made from them."""

from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


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


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


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

    Where there are fewer classes, all of them are returned.
    """
    num_classes = scores.shape[1]
    num = min(num, num_classes)
    values, classes = scores.topk(min(num + 1, num_classes), dim=1)  # one more, to see whether the last is tied
    best, order = classes[:, :num].sort(dim=1)  # a stable sort by value then leaves equals in the order of their classes
    order = values[:, :num].gather(1, order).argsort(dim=1, descending=True, stable=True)
    best = best.gather(1, order)
    if num < num_classes:
        tied = values[:, num - 1] == values[:, num]  # which of these is among the best, topk does not promise
        best[tied] = scores[tied].argsort(dim=1, descending=True, stable=True)[:, :num]
    return best


def count_errors(scores: Tensor, class_indices: Tensor) -> ErrorCounts:
    """Count the wrong images of a batch of logits or probabilities (N, classes)."""
    ranks = true_ranks(scores, class_indices)
    return ErrorCounts(len(ranks), int((ranks > 1).sum()), int((ranks > 5).sum()))


def is_at_chance(counts: ErrorCounts, num_classes: int) -> bool:
    """Whether the images cannot tell a network from one that guesses: the 95 % interval of its top-1 error reaches chance."""
    return wilson_interval(counts.top1_wrong, counts.num_images).high >= 1 - 1 / num_classes


def wilson_interval(wrong: int, num_images: int) -> Interval:
    """Return the 95 % score interval of a proportion. [Wilson 1927]

    Raises:
        ValueError: no images, or more wrong than seen.
    """
    if num_images <= 0 or not 0 <= wrong <= num_images:
        raise ValueError(f"{wrong} wrong of {num_images} images; expected at least one image and no more wrong than seen")
    rate, z2 = wrong / num_images, Z_95**2
    centre = (rate + z2 / (2 * num_images)) / (1 + z2 / num_images)
    half = Z_95 / (1 + z2 / num_images) * sqrt(rate * (1 - rate) / num_images + z2 / (4 * num_images**2))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))
