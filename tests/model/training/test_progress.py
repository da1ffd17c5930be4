"""What a person reads while a network learns."""

import re

from model.evaluation.error_rates import ErrorCounts
from model.training import progress as module
from model.training.progress import Progress
from model.training.records import Record, Sums


def record(epoch):
    return Record(9, epoch, 0.01, 0.02, 1.5, ErrorCounts(100, 40, 10), ErrorCounts(50, 15, 5), 2.0, 0.5, 0.1)


def test_the_last_epoch_is_always_said_in_full():
    lines = []
    Progress(2, 100, lines.append).epoch_done(record(2))
    assert len(lines) == 1
    assert re.match(
        r"100%  epoch 2/2  loss 1\.500  top-1 error: train 40\.0%  val 30\.0%  25% waiting for images"
        r"  [\d,]+ images/s  0:00:00 left",
        lines[0],
    )


def test_lines_keep_their_distance_and_always_say_the_share_of_waiting(monkeypatch):
    lines = []
    progress = Progress(10, 100, lines.append)
    sums = Sums(steps=1, loss=200.0, train=ErrorCounts(100, 40, 10), seconds=4.0, wait_seconds=1.0)
    for epoch in range(1, 10):
        progress.epoch_done(record(epoch))
        progress.step(4, 50, sums)
    assert lines == []
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    progress.step(4, 50, sums)
    assert re.match(r" 45%  epoch 5/10  loss 2\.000  25% waiting for images  [\d,]+ images/s  \d:\d\d:\d\d left", lines[0])


def test_a_run_says_where_it_begins_or_goes_on():
    lines = []
    Progress(4, 100, lines.append).begin(1, 0)
    Progress(4, 100, lines.append).begin(0, 50)
    Progress(4, 100, lines.append).begin(0, 0)
    assert lines == [
        " 25%  resumed after epoch 1/4",
        " 12%  resumed after epoch 0/4 and 50 images",
        "  0%  starting: 4 epochs of 100 images",
    ]
