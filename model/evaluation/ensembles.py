"""Several networks as one: the average of their probabilities. [K12 §6]"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.evaluation.predictions import Predictions

IMAGES_PER_CHUNK = 1024
"""Bounds the memory of the float64 sums."""


def average(members: Sequence[Predictions]) -> Predictions:
    """Return the equal-weight average of the members' probabilities, whatever their order.

    Raises:
        ValueError: no members, or members that saw other images or classes.
    """
    if not members:
        raise ValueError("an ensemble of no members; expected at least one predictions file")
    first = members[0]
    for member in members[1:]:
        if member.wnids != first.wnids:
            raise ValueError(
                f"members with different classes: {len(first.wnids):,} and {len(member.wnids):,}, or another order"
            )
        if member.image_ids != first.image_ids or not torch.equal(member.class_indices, first.class_indices):
            raise ValueError(
                f"members that saw different images: {len(first.image_ids):,} and {len(member.image_ids):,}, or another order"
            )
    chunks = zip(*(torch.split(member.probs, IMAGES_PER_CHUNK) for member in members), strict=True)
    probs = torch.cat([_mean(torch.stack(chunk)) for chunk in chunks])
    return Predictions(first.image_ids, first.class_indices, probs, first.wnids)


def _mean(probs: Tensor) -> Tensor:
    """Over members (members, N, classes): sorted by value first, so that no order of the members changes a bit of the sum."""
    return probs.double().sort(dim=0).values.mean(dim=0).float()
