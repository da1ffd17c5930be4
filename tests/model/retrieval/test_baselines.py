"""Projections against their definitions."""

import numpy as np
import pytest
import torch

from base.errors import InputError
from model.retrieval import baselines as module
from model.retrieval.baselines import fit_projection


@pytest.fixture
def values():
    generator = np.random.default_rng(0)
    return (generator.standard_normal((300, 12)) * np.geomspace(10, 0.1, 12) + 5).astype(np.float32)


def test_principal_directions_are_those_of_the_singular_values(store, values):
    found = fit_projection("pca", store(values), 4).directions.numpy()
    _, _, expected = np.linalg.svd(values - values.mean(axis=0, dtype=np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(expected[:4] @ found), np.eye(4), atol=1e-5)


def test_the_rotation_brings_projections_nearer_to_their_signs(store, values):
    pca, itq = (fit_projection(method, store(values), 4) for method in ("pca", "itq"))
    np.testing.assert_allclose(itq.directions.T @ itq.directions, np.eye(4), atol=1e-10)
    np.testing.assert_allclose(itq.directions @ itq.directions.T, pca.directions @ pca.directions.T, atol=1e-10)
    errors = []
    for one in (pca, itq):
        projected = one.project(torch.from_numpy(values))
        errors.append(float((projected - projected.sign() * projected.abs().mean()).square().sum()))
    assert errors[1] < errors[0] * 0.8


def test_a_seed_draws_projections_and_rotations(store, values):
    for method in ("random-projection", "itq"):
        first, again, other = (fit_projection(method, store(values), 4, seed).directions for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_bits_are_the_signs_of_centred_vectors(store, values):
    one = fit_projection("random-projection", store(values), 20)
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    assert np.array_equal(one.bits(torch.from_numpy(values)).numpy(), centred @ one.directions.numpy() > 0)


def test_large_sets_are_fitted_to_a_sample(store, values, monkeypatch):
    monkeypatch.setattr(module, "FIT_ROWS", 100)
    means = [fit_projection("pca", store(values), 4, seed).mean for seed in (0, 0, 1)]
    assert torch.equal(means[0], means[1])
    assert not torch.equal(means[0], means[2])


@pytest.mark.parametrize("method", ["pca", "itq"])
def test_more_bits_than_values_are_an_error(store, values, method):
    with pytest.raises(InputError, match=f"{method} of 13 bits needs as many vectors and values; there are 300 of 12"):
        fit_projection(method, store(values), 13)
