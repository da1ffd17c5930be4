"""Averages of members in any order, in any number of copies, with any weights; members that do not fit are refused."""

import numpy as np
import pytest
import torch

from base.errors import InputError
from model.evaluation.ensembles import Mix, average, check_same, search_weights
from model.evaluation.error_rates import true_ranks


def average_all(members, weights=None):
    return average(members, [Mix(tuple(range(len(members))), weights)])[0]


def same(a, b):
    return np.array_equal(a.best, b.best) and all(np.array_equal(x, y) for x, y in zip(a.labels, b.labels, strict=True))


def probs(member):
    return np.concatenate(list(member.probs())).astype(np.float64)


def test_an_ensemble_is_the_mean_of_its_members(write_file):
    members = [write_file(seed, num_images=1500) for seed in range(5)]
    mean = torch.from_numpy((sum(probs(member) for member in members) / 5).astype(np.float32))
    together = average_all(members)
    true = torch.tensor(members[0].class_indices)
    assert np.array_equal(together.labels.ranks, true_ranks(mean, true).numpy())
    np.testing.assert_allclose(together.labels.log_probs, mean.gather(1, true[:, None])[:, 0].double().log(), rtol=1e-6)
    assert together.image_ids == members[0].image_ids


@pytest.mark.parametrize("weights", [None, (0.1, 0.2, 0.3, 0.25, 0.15)])
def test_the_order_of_the_members_does_not_change_a_bit(write_file, weights):
    members = [write_file(seed) for seed in range(5)]
    order = [3, 0, 4, 1, 2]
    turned = None if weights is None else tuple(weights[n] for n in order)
    assert same(average_all([members[n] for n in order], turned), average_all(members, weights))


@pytest.mark.parametrize("copies", [1, 2, 3, 7])
def test_copies_of_one_member_equal_it(write_file, copies):
    member = write_file(num_images=1500)
    assert same(average_all([member] * copies), member.answers())


def test_weights_are_proportions(write_file):
    members = [write_file(seed) for seed in range(3)]
    assert same(average_all(members, (1, 1, 2)), average_all(members, (0.25, 0.25, 0.5)))
    assert same(average_all(members, (0, 1, 0)), members[1].answers())


def test_several_mixes_of_one_pass_are_those_of_one_each(write_file):
    members = [write_file(seed) for seed in range(4)]
    mixes = [Mix((0, 1)), Mix((1, 2, 3)), Mix((0, 3), (0.3, 0.7))]
    for mix, found in zip(mixes, average(members, mixes), strict=True):
        assert same(found, average_all([members[n] for n in mix.members], mix.weights))


def test_row_groups_of_other_sizes_do_not_matter(write_file, tmp_path):
    """Files of other programs may have other row groups."""
    import pyarrow.parquet as pq

    from model.evaluation.predictions import open_predictions

    a, b = write_file(0, num_images=2100), write_file(1, num_images=2100)
    pq.write_table(pq.read_table(b.path), tmp_path / "cut.parquet", row_group_size=300)
    assert same(average_all([a, open_predictions(tmp_path / "cut.parquet")]), average_all([a, b]))


def test_without_labels_an_ensemble_still_answers(write_file):
    together = average_all([write_file(seed, true=None) for seed in range(2)])
    assert together.labels is None
    assert together.best.shape == (50, 5)


def noise_and_sense(write_file, num_images=400):
    """Write a network that is mostly right and two that guess with high probabilities."""
    generator = torch.Generator().manual_seed(5)
    true = torch.arange(num_images) % 20
    sense = torch.rand(num_images, 20, generator=generator)
    sense[torch.arange(num_images), true] += 0.3
    noise = [torch.rand(num_images, 20, generator=generator) * 3 for _ in range(2)]
    tables = [table / table.sum(1, keepdim=True) for table in (sense, *noise)]
    return [write_file(n, probs=table, true=true.numpy()) for n, table in enumerate(tables)]


def test_searched_weights_are_better_on_the_images_they_were_searched_on(write_file):
    members = noise_and_sense(write_file)
    found = search_weights(members)
    equal = average_all(members).count_errors().top5_wrong
    assert found.top5_wrong < equal
    assert average_all(members, found.weights).count_errors().top5_wrong == found.top5_wrong
    assert found.weights[0] > max(found.weights[1:])
    assert sum(found.weights) == pytest.approx(1)
    assert all(weight >= 0 for weight in found.weights)


def test_the_search_does_not_depend_on_the_order_of_the_members(write_file):
    members = noise_and_sense(write_file)
    forwards, backwards = search_weights(members), search_weights(members[::-1])
    assert backwards.weights[::-1] == pytest.approx(forwards.weights)


def test_equally_good_members_keep_equal_weights(write_file):
    member = write_file()
    assert search_weights([member, member]).weights == (0.5, 0.5)


def test_weights_cannot_be_searched_without_labels(write_file):
    with pytest.raises(InputError, match="has no labels; ensemble weights are searched on a labelled split such as val"):
        search_weights([write_file(true=None)])


def test_an_ensemble_without_members_is_refused():
    with pytest.raises(ValueError, match="an ensemble without members"):
        average_all([])
    for function in (check_same, search_weights):
        with pytest.raises(InputError, match="an ensemble without members; expected at least one predictions file"):
            function([])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"num_images": 49}, "different images: 50 in .*0.parquet and 49 in .*1.parquet; number 50 is 'image-49' and nothing"),
        ({"num_classes": 5}, "different classes: 7 in .* and 5 in .*; number 6 is 'n5' and nothing"),
        (
            {"wnids": [f"n{n}" for n in (1, 0, 2, 3, 4, 5, 6)]},
            "different classes: 7 in .* and 7 in .*; number 1 is 'n0' and 'n1'",
        ),
        ({"true": np.zeros(50, int)}, "different labels for the same images"),
        ({"true": None}, "different labels for the same images"),
    ],
)
def test_members_that_do_not_fit_are_refused(write_file, other, message):
    with pytest.raises(InputError, match=message):
        average_all([write_file(0), write_file(1, **other)])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0,), "1 weights for 2 members; expected one for each"),
        ((1.0, -0.5), "expected none below zero and one above it"),
        ((0.0, 0.0), "expected none below zero and one above it"),
        ((1.0, float("nan")), "expected none below zero and one above it"),
    ],
)
def test_weights_that_cannot_be_used_are_a_bug(write_file, weights, message):
    with pytest.raises(ValueError, match=message):
        average_all([write_file(0), write_file(1)], weights)
