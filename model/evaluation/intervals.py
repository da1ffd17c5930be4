"""95 % confidence intervals of error rates and of their differences. Training does not import this."""

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from scipy.special import ndtri

if TYPE_CHECKING:  # it needs torch, which the page of a report does without
    from model.evaluation.error_rates import ErrorCounts


Z = float(ndtri(0.975))
"""Of a normal distribution, 95 % lies within so many standard deviations."""


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


def wilson_interval(wrong: int, num_images: int) -> Interval:
    """Return the 95 % score interval of a proportion. [Wilson 1927]

    Raises:
        ValueError: no images, or more wrong than seen.
    """
    if num_images <= 0 or not 0 <= wrong <= num_images:
        raise ValueError(f"{wrong} wrong of {num_images} images; expected at least one image and no more wrong than seen")
    rate, shrunk = wrong / num_images, 1 + Z**2 / num_images
    centre = (rate + Z**2 / (2 * num_images)) / shrunk
    reach = Z / shrunk * sqrt((rate * (1 - rate) + Z**2 / (4 * num_images)) / num_images)
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach))


def newcombe_interval(first: float, first_interval: Interval, second: float, second_interval: Interval) -> Interval:
    """Return the 95 % interval of `first` − `second`, two proportions with their Wilson intervals. [Newcombe 1998]"""
    down = sqrt((first - first_interval.low) ** 2 + (second_interval.high - second) ** 2)
    up = sqrt((first_interval.high - first) ** 2 + (second - second_interval.low) ** 2)
    return Interval(first - second - down, first - second + up)


def is_at_chance(counts: "ErrorCounts", num_classes: int) -> bool:
    """Return whether a network may be guessing: the 95 % interval of its top-1 error reaches that of a guess."""
    return wilson_interval(counts.top1_wrong, counts.num_images).high >= 1 - 1 / num_classes
