"""Two networks on the same images: who is wrong where the other is right, and whether that can be chance.

Called by `model.evaluation.tables` for every pair of measured rows.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from model.evaluation.error_rates import Interval

NUM_RESAMPLES = 10_000
"""(ours) Enough for two digits of the interval's ends."""
SEED = 0
"""(ours) Of the bootstrap: the same counts have the same interval."""


class Discordance(NamedTuple):
    """Of the same images, how many only one of two networks has wrong."""

    num_images: int
    only_first_wrong: int
    only_second_wrong: int

    @property
    def difference(self) -> float:
        """The first's error less the second's: above zero where the second is better."""
        return (self.only_first_wrong - self.only_second_wrong) / self.num_images


def count_discordant(first_wrong: NDArray[np.bool_], second_wrong: NDArray[np.bool_]) -> Discordance:
    """Count over the same images (N,) in the same order."""
    only_first, only_second = (first_wrong & ~second_wrong).sum(), (second_wrong & ~first_wrong).sum()
    return Discordance(len(first_wrong), int(only_first), int(only_second))


def mcnemar_p(pair: Discordance) -> float:
    """Return the exact two-sided p-value: how likely, were both as good, the discordant images fell at least so unevenly.

    [McNemar 1947] with the binomial distribution in place of its approximation; 1 where nothing is discordant.
    """
    discordant = pair.only_first_wrong + pair.only_second_wrong
    return float(binomtest(pair.only_first_wrong, discordant).pvalue) if discordant else 1.0


def bootstrap_interval(pair: Discordance) -> Interval:
    """Return the 95 % percentile interval of the difference, the images drawn anew with their two answers together.

    Drawing images with replacement draws the number of each kind of discordant image from a multinomial distribution, which is
    what is done here.
    """
    n = pair.num_images
    kinds = [pair.only_first_wrong, pair.only_second_wrong, n - pair.only_first_wrong - pair.only_second_wrong]
    draws = np.random.Generator(np.random.PCG64(SEED)).multinomial(n, np.array(kinds) / n, NUM_RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [0.025, 0.975])
    return Interval(float(low), float(high))
