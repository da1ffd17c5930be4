"""Which challenger becomes the champion: the rules, on counts and intervals alone. Called by `tasks.retrain`.

McNemar's test compares two networks on the same images. It does not compare two ways of training: another seed alone makes
another network. docs/retraining.md has how often each rule promotes such a challenger.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from model.evaluation.comparisons import Discordance, bootstrap_interval, count_discordant, mcnemar_p, split_p
from model.evaluation.intervals import Interval

Rule = Literal["superior", "superior-over-seeds", "not-worse", "never", "force"]
Decision = Literal["promoted", "kept", "undecided"]

LEVEL = 0.05
"""(ours) The usual level of the test and of the intervals."""
MARGINS: dict[Rule, float] = {"not-worse": 0.01}
"""(ours) Of a rule with a margin, the default: a hundredth of the images. Of the others: none."""
DISCORDANT = 0.15
"""(ours) Share of the images that only one of two networks has wrong, before any comparison was made: the demo's."""

Wrong = NDArray[np.bool_]
"""Which images of the evaluation set a network has wrong, (N,)."""


@dataclass(frozen=True)
class Comparison:
    """A champion against a challenger on the same images."""

    pair: Discordance
    """The champion first."""
    champion_wrong: int
    challenger_wrong: int
    difference: float
    """Error of the champion − error of the challenger: positive if the challenger is better."""
    interval: Interval
    """95 %, of the difference."""
    p_value: float


class Verdict(NamedTuple):
    """What a rule decides, and why, in one sentence."""

    decision: Decision
    reason: str


def compare(champion: Wrong, challenger: Wrong) -> Comparison:
    """Compare two networks by McNemar's exact test and the paired bootstrap."""
    pair = count_discordant(champion, challenger)
    interval = bootstrap_interval(pair)
    return Comparison(pair, int(champion.sum()), int(challenger.sum()), pair.difference, interval, mcnemar_p(pair))


def compare_over_seeds(champions: Sequence[Wrong], challengers: Sequence[Wrong], live: Wrong, candidate: Wrong) -> Comparison:
    """Compare two ways of training by the mean errors of their networks, which differ by seed.

    The variance of the difference is that of the images plus that of the seeds, with one variance of the seeds for both ways;
    the interval and p are Student's with the seeds' degrees of freedom. The counts are those of the `live` network and of the
    `candidate` alone.

    Raises:
        ValueError: a single challenger: its spread is unknown.
    """
    if len(challengers) < 2:
        raise ValueError("one challenger says nothing of the spread of seeds; expected two or more")
    first, second = (np.stack(networks).astype(float) for networks in (champions, challengers))  # (seeds, N)
    per_image = first.mean(0) - second.mean(0)
    freedom = len(first) + len(second) - 2
    squares = sum(((errors - errors.mean()) ** 2).sum() for errors in (first.mean(1), second.mean(1)))
    of_seeds = squares / freedom * (1 / len(first) + 1 / len(second))
    deviation = sqrt(of_seeds + per_image.var() / len(per_image))
    difference = float(per_image.mean())
    reach = float(stdtrit(freedom, 1 - LEVEL / 2)) * deviation
    p = 2 * float(stdtr(freedom, -abs(difference) / deviation)) if deviation else float(difference == 0)
    counts = compare(live, candidate)
    interval = Interval(difference - reach, difference + reach)
    return Comparison(counts.pair, counts.champion_wrong, counts.challenger_wrong, difference, interval, p)


def decide(rule: Rule, found: Comparison, margin: float, force_reason: str | None = None) -> Verdict:
    """Return whether the challenger becomes the champion.

    `superior` and `superior-over-seeds`: p below 5 %, and better by more than `margin`. `not-worse`: the whole interval is
    above −`margin`. `never` promotes nothing, `force` everything. Otherwise the champion is kept if the whole interval is
    against the challenger, and the comparison is undecided if it is not.
    """
    seen = describe(found)
    promoted = {
        "superior": found.p_value < LEVEL and found.difference > margin,
        "superior-over-seeds": found.p_value < LEVEL and found.difference > margin,
        "not-worse": found.interval.low > -margin,
        "never": False,
        "force": True,
    }[rule]
    if promoted:
        return Verdict("promoted", f"forced: {force_reason}; {seen}" if rule == "force" else f"{_met(rule, margin)}: {seen}")
    if found.interval.high < 0:
        return Verdict("kept", f"the challenger is worse: {seen}")
    return Verdict("undecided", f"{'the rule is never' if rule == 'never' else f'not {_met(rule, margin)}'}: {seen}")


def first_champion(rule: Rule, wrong: int, num_images: int) -> Verdict:
    """Return what becomes of the first network of a name, which has nobody to be compared with."""
    seen = f"{wrong:,} of {num_images:,} wrong"
    if rule == "never":
        return Verdict("undecided", f"there is no champion, and the rule is never: {seen}")
    return Verdict("promoted", f"the first champion: {seen}")


def describe(found: Comparison) -> str:
    """Return `challenger 301 of 1,000 wrong, champion 297; difference −0.4 points, 95 % −2.5 to 1.7, p = 0.74`.

    The difference is that of the errors, challenger − champion: a better challenger has fewer.
    """
    low, high = -found.interval.high, -found.interval.low
    interval = f"95 % {_points(low, '+')} to {_points(high, '+')}"
    return (
        f"challenger {found.challenger_wrong:,} of {found.pair.num_images:,} wrong, champion {found.champion_wrong:,}; "
        f"error {_points(-found.difference, '+')} points, {interval}, p = {found.p_value:.2g}"
    )


def smallest_difference(num_images: int, discordant: float = DISCORDANT) -> float | None:
    """Return the smallest difference of two errors that McNemar's test finds at 5 %; None if the images are too few for any.

    `discordant` is the share of the images that only one of the networks has wrong.
    """
    pairs = max(1, round(discordant * num_images))
    for uneven in range(pairs // 2 + 1):  # how many of them speak for the worse network, from the middle down
        fewer = pairs // 2 - uneven
        if split_p(fewer, pairs - fewer) < LEVEL:
            return (pairs - 2 * fewer) / num_images
    return None


def default_margin(rule: Rule, margin: float | None) -> float:
    """Return the margin of a rule, its default if none is given."""
    return MARGINS.get(rule, 0.0) if margin is None else margin


def _met(rule: Rule, margin: float) -> str:
    if rule == "not-worse":
        return f"worse by less than {_points(margin)} points"
    by = f" by more than {_points(margin)} points" if margin else ""
    return f"superior{by}{' over the seeds' if rule == 'superior-over-seeds' else ''}"


def _points(fraction: float, sign: str = "") -> str:
    return f"{100 * fraction:{sign}.1f}".replace("-", "−")
