"""DALI's ten views against Pillow and NumPy's."""

from typing import Any

import numpy as np
import pytest
import torch

from data_shards.loading.dali import Loader
from data_shards.loading.reference import views
from data_shards.shard_set import ShardSet

TOLERANCE = 1
"""Grey levels by which a pixel may differ: both decode with libjpeg-turbo, but need not round alike in every version."""


def stacked(shards: ShardSet, crop: int, num_views: int) -> tuple[Any, Any]:
    loader = Loader(shards, crop, 7, torch.device("cpu"), 1)
    dali = torch.cat([images for images, _, _ in loader.views(num_views)]).numpy()
    return dali.astype(int), np.stack(list(views(shards, crop, num_views))).astype(int)


@pytest.mark.parametrize("crop", [56, 57, 72])  # a centre on a pixel, one between two, no play at all
@pytest.mark.parametrize("num_views", [1, 10])
def test_every_view_is_the_references(shards: ShardSet, crop: int, num_views: int) -> None:
    dali, reference = stacked(shards, crop, num_views)
    assert dali.shape == reference.shape == (60, num_views, crop, crop, 3)
    for number in range(num_views):
        assert abs(dali[:, number] - reference[:, number]).max() <= TOLERANCE, f"view {number} is another"


def test_swapped_views_would_fail(shards: ShardSet) -> None:
    dali, reference = stacked(shards, 56, 10)
    for number in range(10):
        others = [other for other in range(10) if other != number]
        assert all(abs(dali[:, number] - reference[:, other]).max() > 50 for other in others)
