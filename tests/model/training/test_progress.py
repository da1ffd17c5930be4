"""What a person reads while a network learns."""

import pytest

from model.evaluation.error_rates import ErrorCounts
from model.training.progress import describe, describe_start
from model.training.records import Record, State, Sums
from model.training.schedule import Rates

SUMS = Sums(steps=1, loss=200.0, train=ErrorCounts(100, 40, 10), seconds=4.0, wait_seconds=1.0)


def test_an_epoch_is_described_with_its_errors_and_the_share_of_waiting():
    record = Record(9, 2, 0.01, 0.02, 1.5, ErrorCounts(100, 40, 10), ErrorCounts(50, 15, 5), 2.0, 0.5, 0.1)
    assert describe(record, 20) == "epoch 2/20  loss 1.500  top-1 error: train 40.0%  val 30.0%  25% waiting for images"


def test_an_unfinished_epoch_is_described_without_a_validation_error():
    state = State(epoch=4, images=50, step=9, sums=SUMS)
    assert describe(state.record(Rates(1, 1)), 20) == "epoch 5/20  loss 2.000  top-1 error: train 40.0%  25% waiting for images"
    assert state.sums is SUMS, "describing resets nothing"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State(), "starting: 4 epochs of 1,000 images"),
        (State(epoch=1, step=8), "resumed after epoch 1/4"),
        (State(images=50, step=1), "resumed after epoch 0/4 and 50 images"),
    ],
)
def test_a_run_says_where_it_starts_or_resumes(state, text):
    assert describe_start(4, 1000, state) == text
