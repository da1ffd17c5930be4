"""Ranks and counts by hand, ties included."""

import pytest
import torch

from model.evaluation.error_rates import ErrorCounts, best_classes, count_errors, true_ranks


@pytest.mark.parametrize(
    ("scores", "true", "rank"),
    [
        ([0.1, 0.7, 0.2], 1, 1),
        ([0.1, 0.7, 0.2], 2, 2),
        ([0.1, 0.7, 0.2], 0, 3),
        ([0.5, 0.5, 0.0], 0, 1),  # of equals the lower class index comes first
        ([0.5, 0.5, 0.0], 1, 2),
        ([0.0, 0.0, 0.0], 2, 3),
    ],
)
def test_rank_of_the_true_class(scores, true, rank):
    assert true_ranks(torch.tensor([scores]), torch.tensor([true])).tolist() == [rank]


def test_a_constant_network_is_right_on_the_first_class_only():
    assert count_errors(torch.zeros(8, 8), torch.arange(8)) == ErrorCounts(8, 7, 3)


def test_counts_by_hand():
    scores = torch.tensor([[9.0, 8, 7, 6, 5, 4], [4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6]])
    assert count_errors(scores, torch.tensor([0, 1, 0])) == ErrorCounts(num_images=3, top1_wrong=2, top5_wrong=1)


def test_counts_of_batches_add_up_and_divide_once():
    counts = ErrorCounts(128, 50, 10) + ErrorCounts(72, 30, 6)
    assert counts == ErrorCounts(200, 80, 16)
    assert (counts.top1_error, counts.top5_error) == (80 / 200, 16 / 200)


def test_a_rate_over_zero_images_is_an_error():
    with pytest.raises(ValueError, match="an error rate over zero images"):
        _ = ErrorCounts(0, 0, 0).top1_error


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.1, 0.7, 0.2], [1, 2]),
        ([0.5, 0.5, 0.0], [0, 1]),
        ([0.2, 0.2, 0.6], [2, 0]),  # two classes share the last place; the lower class index gets it
        ([0.3, 0.3, 0.3], [0, 1]),
    ],
)
def test_best_classes_of_a_list(scores, best):
    assert best_classes(torch.tensor([scores]), 2).tolist() == [best]


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_best_classes_and_ranks_agree(levels):
    """Few levels make many ties."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, levels, (400, 30), generator=generator).float()
    true = torch.randint(0, 30, (400,), generator=generator)
    assert torch.equal((best_classes(scores, 5) == true[:, None]).any(1), true_ranks(scores, true) <= 5)
    assert torch.equal(best_classes(scores, 5), scores.sort(dim=1, descending=True, stable=True).indices[:, :5])


def test_of_three_classes_there_are_three_best():
    assert best_classes(torch.tensor([[1.0, 3, 2]]), 5).tolist() == [[1, 2, 0]]
