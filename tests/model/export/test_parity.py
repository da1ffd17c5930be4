"""When a copy is close enough, and what is said about it."""

import pytest
import torch

from model.export.parity import TOLERANCE, compare

OURS = torch.tensor([[0.5, 0.2, 0.1, 0.1 + 1e-5, 0.06, 0.04], [0.04, 0.06, 0.1, 0.15, 0.2, 0.45]])


def test_two_classes_within_the_tolerance_may_change_places():
    copy = OURS.clone()
    copy[0, 2] += 2e-5
    parity = compare(OURS, copy)
    assert (parity.num_images, parity.same_top5, parity.largest_difference) == (2, 1, pytest.approx(2e-5, rel=1e-2))


def test_fewer_than_five_classes_are_compared_too():
    assert compare(OURS[:, :2], OURS[:, :2]).same_top5 == 2


@pytest.mark.parametrize("change", [2 * TOLERANCE, -2 * TOLERANCE, float("nan")])
def test_a_larger_difference_is_an_error(change):
    copy = OURS.clone()
    copy[1, 0] += change
    with pytest.raises(ValueError, match="differs by .* from the network's; expected 0.0001 at most"):
        compare(OURS, copy)
