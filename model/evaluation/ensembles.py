"""Average the probabilities of several networks, and search member weights. [K12 §6]

Reads predictions files in blocks of images: the memory needed does not depend on the number of images.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from base.errors import InputError
from model.evaluation.answers import Answers, judge
from model.evaluation.error_rates import true_ranks
from model.evaluation.predictions import PredictionsFile
from model.evaluation.scopes import Scope, whole

Probs = NDArray[np.float32]
Sums = NDArray[np.float64]

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
"""(ours) Factors that are tried on the weight of a member; 1 keeps it."""
MAX_ROUNDS = 5
"""(ours) Rounds over all members; every search so far ended earlier."""


class Mix(NamedTuple):
    """Which members are averaged, and with which member weights."""

    members: tuple[int, ...]
    """Positions in a list of predictions."""
    weights: tuple[float, ...] | None = None
    """One per member, as proportions; None for equal ones."""


class Weighting(NamedTuple):
    """Member weights that a search found."""

    weights: tuple[float, ...]
    """One per member, summing to one."""
    top5_wrong: int
    """Wrong images at rank five with these weights, on the images of the search."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: blocks are too small to share, and several threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def average(members: Sequence[PredictionsFile], mixes: Sequence[Mix], scope: Scope | None = None) -> list[Answers]:
    """Return the answers of each mix, all from one pass over the files; the order of the members does not matter.

    `scope` says which images count, which classes are ranked and which are right; by default all images, all classes and the
    images' own. Among some of the classes, log-probabilities are those of probabilities divided by their sum over these.

    Raises:
        InputError: there are no members, or members with other images or classes.
        ValueError: a mix has no members, or member weights that cannot be used.
    """
    for mix in mixes:
        _check_weights(mix)
    used = sorted({position for mix in mixes for position in mix.members})
    first = check_same([members[position] for position in used])
    scope = scope or whole(first)
    sheets = [scope.blank() for _ in mixes]
    for rows, blocks in _blocks(members, used, first):
        places = scope.places(rows)
        for mix, sheet in zip(mixes, sheets, strict=True):
            probs = scope.chosen(_mean(members, blocks, mix), rows)
            sheet.best[places], labels = judge(probs, scope.true_classes(probs, places))
            if labels is not None and sheet.labels is not None:
                sheet.labels.ranks[places] = labels.ranks
                sheet.labels.log_probs[places] = labels.log_probs - scope.log_totals(probs)
    return sheets


def check_same(members: Sequence[PredictionsFile]) -> PredictionsFile:
    """Check that all predictions have the same images, labels and classes, and return the first.

    Raises:
        InputError: they differ, or there are none.
    """
    if not members:
        raise InputError("an ensemble without members; expected at least one predictions file")
    first = members[0]
    for member in members[1:]:
        if member.wnids != first.wnids:
            raise InputError(f"members with different classes: {_differ(first.wnids, member.wnids, first, member)}")
        if member.image_ids != first.image_ids:
            raise InputError(f"members that saw different images: {_differ(first.image_ids, member.image_ids, first, member)}")
        if not np.array_equal(np.asarray(member.class_indices), np.asarray(first.class_indices)):
            raise InputError(f"members with different labels for the same images: {first.path} and {member.path}")
    return first


@_one_thread()
def search_weights(members: Sequence[PredictionsFile]) -> Weighting:
    """Return the member weights with the fewest top-5 errors that a coordinate search finds, starting from equal ones. [CHM]

    It tries some multiples of the weight of each member in turn, while the others stay, and keeps the best, which of equally
    good ones is the nearest to the old weight. It ends when a round changes nothing. The weights fit the images of the search,
    so the error on them is too low; only the error on other images is an estimate.

    Raises:
        InputError: members with other images or classes, or images without labels.
    """
    first = check_same(members)
    if first.class_indices is None:
        raise InputError(f"{first.path} has no labels; ensemble weights are searched on a labelled split such as val")
    order = sorted(range(len(members)), key=lambda position: _canonical(members[position]))
    weights = np.ones(len(members))
    fewest = int(_count_wrong(members, weights, order[0])[STEPS.index(1.0)])
    for _ in range(MAX_ROUNDS):
        before = weights.copy()
        for position in order:
            wrong = _count_wrong(members, weights, position)
            best = min(range(len(STEPS)), key=lambda n: (wrong[n], abs(STEPS[n] - 1), n))
            fewest, weights[position] = int(wrong[best]), weights[position] * STEPS[best]
        if np.array_equal(weights, before):
            break
    return Weighting(tuple((weights / weights.sum()).tolist()), fewest)


def _count_wrong(members: Sequence[PredictionsFile], weights: Sums, position: int) -> NDArray[np.int64]:
    """Return the wrong images at rank five with each multiple of one member's weight; all are wrong if all weights are zero."""
    first = members[0]
    wrong = np.zeros(len(STEPS), np.int64)
    others = [n for n in range(len(members)) if n != position and weights[n]]
    for rows, blocks in _blocks(members, range(len(members)), first):
        rest = _sum(members, blocks, Mix(tuple(others), tuple(weights[others].tolist())))
        true = torch.from_numpy(np.asarray(first.class_indices)[rows])
        for n, step in enumerate(STEPS):
            if not others and not step * weights[position]:
                wrong[n] = len(first)
                continue
            scores = torch.from_numpy(rest + step * weights[position] * blocks[position])
            wrong[n] += int((true_ranks(scores, true) > 5).sum())
    return wrong


def _blocks(
    members: Sequence[PredictionsFile], used: Sequence[int], first: PredictionsFile
) -> Iterator[tuple[slice, dict[int, Probs]]]:
    """Yield blocks of images: their rows, and the probabilities of every member that is used."""
    start = 0
    for blocks in zip(*(members[position].probs() for position in used), strict=True):
        rows = slice(start, start + len(blocks[0]))
        start = rows.stop
        yield rows, dict(zip(used, blocks, strict=True))
    if start != len(first):
        raise InputError(f"{first.path} gave {start:,} of its {len(first):,} images; predict again")


def _mean(members: Sequence[PredictionsFile], blocks: dict[int, Probs], mix: Mix) -> Tensor:
    total = len(mix.members) if mix.weights is None else sum(sorted(mix.weights))
    return torch.from_numpy((_sum(members, blocks, mix) / total).astype(np.float32))


def _sum(members: Sequence[PredictionsFile], blocks: dict[int, Probs], mix: Mix) -> Sums:
    """Return the weighted sum in float64, in an order that depends on the members and not on how they were listed."""
    weights = (1.0,) * len(mix.members) if mix.weights is None else mix.weights
    terms = sorted(zip(mix.members, weights, strict=True), key=lambda term: (_canonical(members[term[0]]), term[1]))
    total = np.zeros(next(iter(blocks.values())).shape)
    for position, weight in terms:
        probs = blocks[position]
        np.add(total, probs if weight == 1 else weight * probs.astype(np.float64), out=total)
    return total


def _canonical(member: PredictionsFile) -> str:
    return str(member.about.get("weights", member.path))


def _check_weights(mix: Mix) -> None:
    if not mix.members:
        raise ValueError("an ensemble without members; expected at least one predictions file")
    if mix.weights is None:
        return
    if len(mix.weights) != len(mix.members):
        raise ValueError(f"{len(mix.weights):,} weights for {len(mix.members):,} members; expected one for each")
    if not all(weight >= 0 for weight in mix.weights) or not 0 < sum(mix.weights) < float("inf"):
        raise ValueError(f"ensemble weights {', '.join(map(str, mix.weights))}; expected none below zero and one above it")


def _differ(ours: Sequence[str], others: Sequence[str], first: PredictionsFile, member: PredictionsFile) -> str:
    """Return how two lists that should be equal differ."""
    place = next((n for n, (a, b) in enumerate(zip(ours, others, strict=False)) if a != b), min(len(ours), len(others)))
    a, b = (repr(names[place]) if place < len(names) else "nothing" for names in (ours, others))
    return f"{len(ours):,} in {first.path} and {len(others):,} in {member.path}; number {place + 1:,} is {a} and {b}"
