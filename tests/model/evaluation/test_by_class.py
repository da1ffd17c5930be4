"""Errors per class and confused classes, counted by hand."""

import numpy as np

from model.evaluation.answers import Answers, Labels
from model.evaluation.by_class import ClassErrors, errors_by_class


def test_classes_by_hand():
    true = np.array([0, 0, 0, 0, 0, 1, 1])
    first = np.array([0, 2, 1, 2, 3, 1, 0])
    ranks = np.array([1, 2, 6, 3, 9, 1, 2])
    best = np.stack([first, *[np.zeros(7, int)] * 4], axis=1)
    answers = Answers(list("abcdefg"), ["n0", "n1", "n2", "n3"], best, Labels(true, ranks, np.zeros(7)))
    assert errors_by_class(answers, answers.labels) == [
        ClassErrors("n0", 5, 4, 2, ["n2", "n1", "n3"], [2, 1, 1]),  # of equals the lower class index comes first
        ClassErrors("n1", 2, 1, 0, ["n0"], [1]),
        ClassErrors("n2", 0, 0, 0, [], []),
        ClassErrors("n3", 0, 0, 0, [], []),
    ]


def test_classes_sum_to_the_whole_split(write_file):
    answers = write_file(num_images=300, num_classes=20).answers()
    counts = answers.count_errors()
    classes = errors_by_class(answers, answers.labels)
    assert sum(one.num_images for one in classes) == 300
    assert sum(one.top1_wrong for one in classes) == counts.top1_wrong
    assert sum(one.top5_wrong for one in classes) == counts.top5_wrong
    assert all(sum(one.confused_images) <= one.top1_wrong for one in classes)
    assert max(len(one.confused_wnids) for one in classes) == 5
