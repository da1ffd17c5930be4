"""Two networks on the same images: on how many only one of them is wrong, and whether the difference can be chance.

Called by `model.evaluation.rows` for every pair of measured rows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from model.evaluation.intervals import Interval

NUM_RESAMPLES = 10_000
"""(ours) Enough for two digits of the ends of the interval."""
SEED = 0
"""(ours) Fixed, so that the same counts have the same interval."""


class Discordance(NamedTuple):
    """How many images only one of two networks has wrong."""

    num_images: int
    only_first_wrong: int
    only_second_wrong: int

    @property
    def difference(self) -> float:
        """Error of the first − error of the second: positive if the second is better."""
        return (self.only_first_wrong - self.only_second_wrong) / self.num_images


def count_discordant(first_wrong: NDArray[np.bool_], second_wrong: NDArray[np.bool_]) -> Discordance:
    """Count over the same images (N,) in the same order."""
    only_first, only_second = (first_wrong & ~second_wrong).sum(), (second_wrong & ~first_wrong).sum()
    return Discordance(len(first_wrong), int(only_first), int(only_second))


def mcnemar_p(pair: Discordance) -> float:
    """Return the exact two-sided p-value of McNemar's test; 1 if no image is discordant. [McNemar 1947]

    It is the probability of a split of the discordant images that is at least as uneven, if both networks are equally good.
    """
    return split_p(pair.only_first_wrong, pair.only_second_wrong)


def split_p(first: int, second: int) -> float:
    """Return the probability that a fair coin falls at least as unevenly as `first` to `second`, in either direction."""
    return min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5)))


def bootstrap_interval(pair: Discordance) -> Interval:
    """Return the 95 % percentile interval of the difference, by the bootstrap over images with their two answers together.

    If images are drawn with replacement, the number of each kind of image has a multinomial distribution; it is drawn directly.
    """
    n = pair.num_images
    kinds = [pair.only_first_wrong, pair.only_second_wrong, n - pair.only_first_wrong - pair.only_second_wrong]
    draws = np.random.Generator(np.random.PCG64(SEED)).multinomial(n, np.array(kinds) / n, NUM_RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [0.025, 0.975])
    return Interval(float(low), float(high))
