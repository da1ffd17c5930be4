"""The learning rate as a function of what has happened."""

import pytest

from model.training.config import TrainConfig
from model.training.schedule import count_plateaus, learning_rate


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 0.01), (24, 0.01), (25, 0.001), (50, 0.001), (51, 1e-4), (78, 1e-4), (79, 1e-5), (90, 1e-5), (91, None)],
)
def test_steps_drop_where_the_2012_run_dropped(epoch, rate):
    config = TrainConfig(schedule="steps", epochs=91)
    assert learning_rate(config, epoch, []) == (None if rate is None else pytest.approx(rate))


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


def test_plateau_divides_by_ten_and_ends_where_it_would_divide_once_too_often():
    config = TrainConfig(schedule="plateau", patience_epochs=1, num_drops=3)
    rates = [learning_rate(config, epoch, [0.5] * (epoch + 1)) for epoch in range(5)]
    assert rates == [pytest.approx(0.01), pytest.approx(1e-3), pytest.approx(1e-4), pytest.approx(1e-5), None]


def test_no_epoch_follows_the_last():
    assert learning_rate(TrainConfig(epochs=2), 2, []) is None
