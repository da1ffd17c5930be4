"""The learning rates as functions of the training so far."""

import pytest

from model.training.config import TrainConfig
from model.training.recipes import CODE2010, CODE2012, DEXP
from model.training.schedule import Shares, colour_noise, count_plateaus, dexp, learning_rates, shares

CODE = TrainConfig(**CODE2012.training)
TUNED = CODE.model_copy(update=CODE2012.fine_tuning)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 0.01), (24, 0.01), (25, 0.001), (50, 0.001), (51, 1e-4), (78, 1e-4), (79, 1e-5), (90, 1e-5), (91, None)],
)
def test_steps_drop_in_the_epochs_of_the_2012_run_and_keep_the_rate_of_the_biases(epoch, rate):
    assert learning_rates(CODE, epoch, []) == (None if rate is None else (pytest.approx(rate), 0.02))


def test_steps_drop_in_the_epochs_of_the_2010_run():
    config = TrainConfig(**CODE2010.training)
    rates = [learning_rates(config, epoch, []) for epoch in (22, 23, 50, 51, 77, 78, 92, 93)]
    assert [rate and rate.weights for rate in rates] == [
        *(pytest.approx(rate) for rate in (0.01, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5)),
        None,
    ]


@pytest.mark.parametrize(
    ("epoch", "weights", "biases"),
    [
        (0, 0.01, 0.02),
        (22, 0.01, 0.02),
        (23, 0.01 / 250 ** (1 / 3), 0.02),
        (44, 0.01 / 250 ** (1 / 3), 0.02),
        (45, 0.01 / 250 ** (2 / 3), 0.002),
        (68, 0.01 / 250, 0.002),
        (89, 0.01 / 250, 0.002),
    ],
)
def test_dexp_falls_in_four_steps_for_weights_and_two_for_biases(epoch, weights, biases):
    rates = learning_rates(TrainConfig(**DEXP.training), epoch, [])
    assert rates == (pytest.approx(weights), pytest.approx(biases))


def test_dexp_has_as_many_rates_as_steps_and_ends_at_the_factor():
    found = [dexp(8.0, 4, epoch / 40) for epoch in range(40)]
    assert found == [pytest.approx(1 / 2**n) for n in range(4) for _ in range(10)]


@pytest.mark.parametrize(
    ("errors", "plateaus"),
    [
        ([], 0),
        ([0.9, 0.8, 0.7], 0),
        ([0.5, 0.5], 0),
        ([0.5, 0.5, 0.5], 1),
        ([0.5, 0.6, 0.4, 0.6], 0),
        ([0.5, 0.6, 0.6, 0.6], 1),
        ([0.5, 0.6, 0.6, 0.6, 0.6], 2),
        ([0.5, 0.6, 0.6, 0.4, 0.5, 0.5], 2),
    ],
)
def test_a_plateau_is_so_many_measurements_without_a_new_minimum(errors, plateaus):
    assert count_plateaus(errors, patience=2) == plateaus


def test_plateau_divides_both_rates_by_ten_and_ends_instead_of_dividing_once_too_often():
    config = TrainConfig(schedule="plateau", patience_epochs=1, num_drops=3)
    rates = [learning_rates(config, epoch, [0.5] * (epoch + 1)) for epoch in range(5)]
    assert rates == [*((pytest.approx(rate), pytest.approx(rate)) for rate in (0.01, 1e-3, 1e-4, 1e-5)), None]


@pytest.mark.parametrize("schedule", ["plateau", "steps", "dexp"])
def test_no_epoch_follows_the_last(schedule):
    assert learning_rates(TrainConfig(epochs=2, schedule=schedule), 2, []) is None
    assert learning_rates(TrainConfig(epochs=2, schedule=schedule), 1, []) is not None


@pytest.mark.parametrize(("epoch", "conv1"), [(0, 1.0), (66, 1.0), (67, 0.1), (71, 0.1), (72, 0.0), (90, 0.0)])
def test_conv1_is_slowed_and_then_frozen_in_the_epochs_of_the_2012_run(epoch, conv1):
    assert shares(CODE, epoch, 10_000, fine_tune=False) == Shares(conv1, 1.0, 1.0)


@pytest.mark.parametrize(("epoch", "noise"), [(0, 0.1), (66, 0.1), (67, 0.0), (90, 0.0)])
def test_colour_noise_ends_in_the_epoch_of_the_2012_run(epoch, noise):
    assert colour_noise(CODE, epoch) == noise
    assert colour_noise(TrainConfig(), epoch) == 0.1


@pytest.mark.parametrize(
    ("epoch", "step", "conv1", "last"),
    [
        (0, 0, 1e-4, 1e-3),
        (0, 299, 1e-4, 1e-3),
        (0, 300, 1e-4, 1e-2),
        (4, 50_000, 1e-4, 1e-2),
        (5, 60_000, 1e-5, 1e-2),
        (7, 80_000, 0.0, 1e-2),
        (9, 99_999, 0.0, 1e-3),
    ],
)
def test_fine_tuning_has_the_rates_of_the_2012_log(epoch, step, conv1, last):
    """.0001 for conv1 and .001 for the others; after 300 batches .01 for fc8; then each falls in its own epoch."""
    found = shares(TUNED, epoch, step, fine_tune=True)
    rates = learning_rates(TUNED, epoch, [])
    assert rates is not None
    assert [share * rates.weights for share in found] == [pytest.approx(conv1), pytest.approx(last), pytest.approx(1e-3)]
