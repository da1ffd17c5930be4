"""Pairs on the same images: counts by hand, exact p-values, and the interval of a bootstrap that draws image by image."""

import math

import numpy as np
import pytest

from model.evaluation.comparisons import Discordance, bootstrap_interval, count_discordant, mcnemar_p


def test_discordant_images_by_hand():
    first = np.array([True, True, True, False, False, False])
    second = np.array([True, False, False, True, False, False])
    pair = count_discordant(first, second)
    assert pair == Discordance(num_images=6, only_first_wrong=2, only_second_wrong=1)
    assert pair.difference == pytest.approx(first.mean() - second.mean())


def by_hand(b, c):
    """Both tails of the binomial distribution with probability one half."""
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    return min(1.0, 2 * tail)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 5), (10, 2), (2, 10), (5, 28), (0, 6), (121, 59), (45, 44)])
def test_mcnemars_exact_p_value(b, c):
    assert mcnemar_p(Discordance(1000, b, c)) == pytest.approx(by_hand(b, c))


def test_the_bootstrap_is_that_of_drawing_images_with_replacement():
    first = np.array([True] * 60 + [False] * 25 + [True] * 115)
    second = np.array([False] * 60 + [True] * 25 + [True] * 40 + [False] * 75)
    difference = first.astype(int) - second
    draws = np.random.default_rng(1).integers(0, 200, (10_000, 200))
    low, high = np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
    interval = bootstrap_interval(count_discordant(first, second))
    assert interval.low == pytest.approx(low, abs=0.008)
    assert interval.high == pytest.approx(high, abs=0.008)
    assert interval == bootstrap_interval(count_discordant(first, second))


def test_networks_that_agree_have_no_difference():
    assert bootstrap_interval(Discordance(50, 0, 0)) == (0, 0)
