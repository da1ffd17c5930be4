"""The intervals around error rates and their differences, against published values and SciPy."""

import pytest
from scipy.stats import binomtest

from model.evaluation.error_rates import ErrorCounts
from model.evaluation.intervals import is_at_chance, newcombe_interval, wilson_interval


@pytest.mark.parametrize(
    ("wrong", "images", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (5, 10, 0.23659, 0.76341), (20332, 50000, 0.40234, 0.41095)],
)
def test_wilson_intervals_are_the_published_ones(wrong, images, low, high):
    interval = wilson_interval(wrong, images)
    assert interval.low == pytest.approx(low, abs=1e-5)
    assert interval.high == pytest.approx(high, abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "images"),
    [(0, 1), (1, 1), (0, 10), (10, 10), (1, 3), (34, 1000), (297, 1000), (20332, 50000), (56209, 150000), (149999, 150000)],
)
def test_wilson_intervals_are_scipys(wrong, images):
    expected = binomtest(wrong, images).proportion_ci(0.95, method="wilson")
    assert wilson_interval(wrong, images) == pytest.approx((expected.low, expected.high), rel=0, abs=1e-12)


@pytest.mark.parametrize(("wrong", "images"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_have_no_interval(wrong, images):
    with pytest.raises(ValueError, match="expected at least one image and no more wrong than seen"):
        wilson_interval(wrong, images)


def test_the_interval_of_a_difference_is_newcombes():
    """[Newcombe 1998] Table II, example (a): 56/70 − 48/80 is .2, from .0524 to .3339."""
    interval = newcombe_interval(56 / 70, wilson_interval(56, 70), 48 / 80, wilson_interval(48, 80))
    assert interval == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


@pytest.mark.parametrize(
    ("right", "images", "classes", "at_chance"),
    [(50, 1000, 20, True), (62, 1000, 20, True), (70, 1000, 20, False), (0, 1000, 20, True), (500, 1000, 20, False)],
)
def test_chance_is_the_rate_of_guessing(right, images, classes, at_chance):
    assert is_at_chance(ErrorCounts(images, images - right, 0), classes) is at_chance
