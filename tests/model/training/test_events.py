"""Event files as TensorBoard reads them."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.evaluation.error_rates import ErrorCounts
from model.training.events import Events
from model.training.records import Record


def record(step, loss=1.5, val=None):
    return Record(step, 1, 0.01, 0.02, loss, ErrorCounts(100, 40, 10), val, 2.0, 0.5, 0.1)


def read(directory, name):
    accumulator = EventAccumulator(str(directory)).Reload()
    return [(event.step, pytest.approx(event.value)) for event in accumulator.Scalars(name)]


def test_every_value_is_written_at_its_step(tmp_path):
    events = Events(tmp_path)
    events.write(record(5))
    events.write(record(8, val=ErrorCounts(50, 15, 5)))
    events.close()
    assert read(tmp_path, "loss/training") == [(5, 1.5), (8, 1.5)]
    assert read(tmp_path, "top-1 error/training") == [(5, 0.4), (8, 0.4)]
    assert read(tmp_path, "top-1 error/validation") == [(8, 0.3)]
    assert read(tmp_path, "top-5 error/validation") == [(8, 0.1)]
    assert read(tmp_path, "rate/biases") == [(5, 0.02), (8, 0.02)]
    assert read(tmp_path, "speed/images per second") == [(5, 50), (8, 50)]
    assert read(tmp_path, "speed/share of waiting") == [(5, 0.25), (8, 0.25)]


def test_repeated_steps_replace_those_of_the_killed_run(tmp_path):
    killed = Events(tmp_path)
    for step in (5, 10, 15):
        killed.write(record(step, loss=9.0))
    killed.close()
    resumed = Events(tmp_path)
    resumed.write(record(10, loss=1.0))
    resumed.close()
    assert read(tmp_path, "loss/training") == [(5, 9.0), (10, 1.0)]


def test_a_run_without_a_record_leaves_no_file(tmp_path):
    Events(tmp_path / "events").close()
    assert not (tmp_path / "events").exists()
