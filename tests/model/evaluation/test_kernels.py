"""Colour in the first layer's kernels."""

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.kernels import (
    KERNELS,
    NUM_PERMUTATIONS,
    SPECIALISATION,
    FirstLayer,
    chroma_share,
    grey_unexplained,
    kernel_rows,
    permutation_p,
    rms,
    separation,
    specialisation_rows,
    tower_auc,
)

GREY, OPPONENT = (1, 1, 1), (1, -0.5, -0.5)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def patterns(generator, colour, count=12):
    return generator.normal(size=(count, 1, 11, 11)) * np.array(colour).reshape(1, 3, 1, 1)


def layer(towers, initial=None, seed=0):
    return FirstLayer(f"CNN, seed {seed}", (f"digest {seed}",), towers, initial, {"seed": seed, "weights_code_versions": ["c"]})


@pytest.mark.parametrize("measure", [chroma_share, grey_unexplained])
def test_grey_has_no_chroma_white_noise_two_thirds_and_opponent_colours_only_chroma(measure, generator):
    np.testing.assert_allclose(measure(patterns(generator, GREY)), 0, atol=1e-12)
    np.testing.assert_allclose(measure(patterns(generator, OPPONENT)), 1, atol=1e-12)
    assert abs(measure(generator.normal(size=(2000, 3, 11, 11))).mean() - 2 / 3) < 0.01


def test_a_bright_kernel_counts_as_grey_only_in_the_chroma_share(generator):
    coloured = patterns(generator, OPPONENT) + 5
    assert chroma_share(coloured).max() < 0.2
    np.testing.assert_allclose(grey_unexplained(coloured), 1, atol=1e-12)


def test_scale_does_not_change_a_share(generator):
    noise = generator.normal(size=(5, 3, 11, 11)).astype(np.float32)
    np.testing.assert_allclose(chroma_share(noise), chroma_share(noise * 8), rtol=1e-12)
    np.testing.assert_allclose(rms(noise * 8), 8 * rms(noise), rtol=1e-6)


def test_a_kernel_of_zeros_has_no_share():
    assert np.isnan(chroma_share(np.zeros((1, 3, 11, 11)))).all()


def test_auc_is_the_share_of_pairs_in_which_b_is_more_coloured(generator):
    a, b = generator.integers(0, 5, 12) / 5, generator.integers(0, 5, 12) / 5
    pairs = [(y > x) + (y == x) / 2 for x in a for y in b]
    assert tower_auc((a, b)) == pytest.approx(np.mean(pairs))
    assert separation([(a, b)]) == max(np.mean(pairs), 1 - np.mean(pairs))


def test_exchanging_the_towers_changes_nothing(generator):
    networks = [tuple(generator.uniform(size=(2, 12)) ** [[1], [1.5]]) for _ in range(3)]
    exchanged = [networks[0][::-1], networks[1], networks[2][::-1]]
    assert separation(networks) == pytest.approx(separation(exchanged))
    assert permutation_p(networks) == permutation_p(exchanged)
    layers = [layer((patterns(generator, GREY), generator.normal(size=(12, 3, 11, 11))), seed=seed) for seed in range(3)]
    turned = [layer(one.towers[::-1], seed=seed) for seed, one in enumerate(layers)]
    assert specialisation_rows(layers)[-1] == {**specialisation_rows(turned)[-1], "colour_tower": "b"}


def test_equal_towers_have_no_small_p_value_and_separate_towers_the_smallest(generator):
    p_values = [permutation_p([tuple(generator.uniform(size=(2, 12)))]) for _ in range(40)]
    assert 0.3 < np.mean(p_values) < 0.7
    assert permutation_p([(np.arange(24.0), np.arange(24.0) + 100)]) == 1 / (NUM_PERMUTATIONS + 1)


def test_p_values_agree_with_all_ways_to_deal(generator):
    from itertools import combinations

    shares = generator.uniform(size=8)
    real = separation([(shares[:4], shares[4:])])
    dealt = [separation([(shares[list(a)], np.delete(shares, a))]) for a in combinations(range(8), 4)]
    assert permutation_p([(shares[:4], shares[4:])]) == pytest.approx(np.mean(np.array(dealt) >= real - 1e-9), abs=0.02)


def test_rows_fit_their_schemas(generator):
    towers = patterns(generator, GREY), patterns(generator, OPPONENT)
    initial = tuple(generator.normal(size=(12, 3, 11, 11)) for _ in "ab")
    layers = [layer(towers, initial, seed) for seed in (0, 1)]
    kernels = pa.Table.from_pylist(kernel_rows(layers[0]), schema=KERNELS).to_pandas()
    assert kernels["tower"].tolist() == ["a"] * 12 + ["b"] * 12
    assert kernels["kernel"].tolist() == [*range(12)] * 2
    learnt = kernels["learnt_chroma_share"].to_numpy()[:12]
    np.testing.assert_allclose(learnt, chroma_share(towers[0] - initial[0]))
    rows = pa.Table.from_pylist(specialisation_rows(layers), schema=SPECIALISATION).to_pandas()
    assert rows["source"].tolist() == ["K12 figure 3", "measured", "measured", "measured"]
    assert rows["seed"].isna().tolist() == [True, False, False, True]
    assert rows["coloured_b"].tolist() == [29, 12, 12, 24]
    assert rows["auc"].tolist() == [0.77, 1, 1, 1]
    assert rows["colour_tower"].tolist() == ["b"] * 4
    assert rows["members"].iloc[-1].tolist() == ["digest 0", "digest 1"]


def test_learnt_shares_are_null_if_the_initial_kernels_are_unknown(generator):
    rows = kernel_rows(layer((patterns(generator, GREY), patterns(generator, GREY))))
    assert {row["learnt_chroma_share"] for row in rows} == {None}
