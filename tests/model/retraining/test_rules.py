"""The rules, on counts that were made up."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from model.retraining.rules import (
    compare,
    compare_over_seeds,
    decide,
    default_margin,
    describe,
    first_champion,
    smallest_difference,
)


def networks(both, only_first, only_second, num_images=1000):
    """Return which images two networks have wrong, so many of each kind."""
    first, second = np.zeros(num_images, bool), np.zeros(num_images, bool)
    first[: both + only_first] = True
    second[:both] = True
    second[both + only_first : both + only_first + only_second] = True
    return first, second


def compared(only_champion, only_challenger):
    return compare(*networks(200, only_champion, only_challenger))


@pytest.mark.parametrize(
    ("rule", "margin", "only_champion", "only_challenger", "decision"),
    [
        ("superior", 0, 100, 60, "promoted"),
        ("superior", 0, 85, 65, "undecided"),
        ("superior", 0, 60, 100, "kept"),
        ("superior", 0.03, 100, 60, "promoted"),
        ("superior", 0.05, 100, 60, "undecided"),
        ("not-worse", 0.01, 100, 100, "undecided"),
        ("not-worse", 0.03, 100, 100, "promoted"),
        ("not-worse", 0.01, 10, 10, "promoted"),
        ("not-worse", 0.01, 60, 100, "kept"),
        ("never", 0, 200, 0, "undecided"),
        ("never", 0, 0, 200, "kept"),
        ("force", 0, 0, 200, "promoted"),
    ],
)
def test_a_rule_decides(rule, margin, only_champion, only_challenger, decision):
    assert decide(rule, compared(only_champion, only_challenger), margin, "because").decision == decision


def test_a_reason_says_what_was_asked_and_what_was_seen():
    seen = "challenger 260 of 1,000 wrong, champion 300; error −4.0 points, 95 % −6.5 to −1.5, p = 0.002"
    assert describe(compared(100, 60)) == seen
    assert decide("superior", compared(100, 60), 0).reason == f"superior: {seen}"
    assert decide("superior", compared(100, 60), 0.05).reason == f"not superior by more than 5.0 points: {seen}"
    assert decide("not-worse", compared(100, 60), 0.01).reason == f"worse by less than 1.0 points: {seen}"
    assert decide("never", compared(100, 60), 0).reason == f"the rule is never: {seen}"
    assert decide("force", compared(100, 60), 0, "new labels").reason == f"forced: new labels; {seen}"
    assert decide("superior", compared(60, 100), 0).reason.startswith("the challenger is worse: ")


def test_two_equal_networks_are_undecided():
    assert decide("superior", compared(0, 0), 0).decision == "undecided"


def test_the_first_champion_is_promoted_unless_the_rule_is_never():
    assert first_champion("superior", 20, 100) == ("promoted", "the first champion: 20 of 100 wrong")
    assert first_champion("never", 20, 100).decision == "undecided"


@pytest.mark.parametrize(("num_images", "points"), [(1000, 2.6), (10_000, 0.78), (50_000, 0.344)])
def test_the_smallest_difference_falls_with_the_root_of_the_images(num_images, points):
    assert 100 * smallest_difference(num_images) == pytest.approx(points)


def test_the_smallest_difference_is_the_first_that_the_test_finds():
    least = round(1000 * smallest_difference(1000, 0.2))
    for difference, is_found in ((least, True), (least - 2, False)):
        assert (compared(100 + difference // 2, 100 - difference // 2).p_value < 0.05) == is_found


def test_a_few_images_can_decide_nothing():
    assert smallest_difference(20) is None


def seeds(*errors, draw=0):
    generator = np.random.default_rng(draw)
    return [generator.random(1000) < error for error in errors]


def test_over_seeds_a_lucky_seed_is_not_promoted_and_a_better_training_is():
    champions, lucky = seeds(0.30, 0.33, 0.27), seeds(0.33, 0.22, 0.31, draw=1)
    assert decide("superior", compare(champions[0], lucky[1]), 0).decision == "promoted"
    assert (
        decide("superior-over-seeds", compare_over_seeds(champions, lucky, champions[0], lucky[1]), 0).decision == "undecided"
    )
    better = seeds(0.16, 0.15, 0.17, draw=2)
    assert (
        decide("superior-over-seeds", compare_over_seeds(champions, better, champions[0], better[0]), 0).decision == "promoted"
    )


def test_over_seeds_its_p_is_above_that_of_students_test_on_the_errors_alone():
    first, second = seeds(0.30, 0.28, 0.27, 0.31), seeds(0.27, 0.25, 0.26, draw=1)
    found = compare_over_seeds(first, second, first[0], second[0])
    errors = [[one.mean() for one in networks] for networks in (first, second)]
    assert found.difference == pytest.approx(np.mean(errors[0]) - np.mean(errors[1]))
    assert found.p_value > ttest_ind(*errors).pvalue
    assert (found.p_value < 0.05) == (found.interval.low > 0 or found.interval.high < 0)
    assert (found.champion_wrong, found.challenger_wrong) == (first[0].sum(), second[0].sum())


def test_over_seeds_a_champion_without_siblings_can_be_challenged_but_not_by_one_network():
    first, second = seeds(0.3), seeds(0.1, 0.11, 0.12, draw=1)
    assert compare_over_seeds(first, second, first[0], second[0]).p_value < 0.05
    with pytest.raises(ValueError, match="one challenger says nothing of the spread"):
        compare_over_seeds(second, first, second[0], first[0])


def test_only_not_worse_has_a_margin_by_itself():
    assert [default_margin(rule, None) for rule in ("superior", "not-worse", "never")] == [0, 0.01, 0]
    assert default_margin("superior", 0.02) == 0.02
