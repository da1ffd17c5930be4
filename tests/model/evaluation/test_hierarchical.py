"""The hierarchical cost, by hand on a tree of four leaves."""

import numpy as np

from model.evaluation.hierarchical import by_class_index, total_costs

TREE = np.array([[0, 1, 3, 3], [1, 0, 3, 3], [3, 3, 0, 2], [3, 3, 2, 0]], np.uint8)
"""0 and 1 meet at height 1, 2 and 3 at height 2, all at height 3."""


def costs(guesses, true):
    return total_costs(np.array(guesses), np.array(true), TREE).tolist()


def test_an_image_costs_what_its_best_guess_costs():
    assert costs([[0, 1]], [0]) == [0, 0]
    assert costs([[2, 1]], [0]) == [3, 1]
    assert costs([[2, 3, 0]], [0]) == [3, 3, 0]


def test_images_are_summed():
    assert costs([[0, 1], [3, 2], [1, 0]], [0, 2, 3]) == [0 + 2 + 3, 0 + 0 + 3]


def test_a_missing_guess_costs_the_maximum():
    assert costs([[4, 4], [1, 4]], [0, 0]) == [3 + 1, 3 + 1]


def test_many_images_do_not_overflow_a_byte():
    assert costs([[2]] * 1000, [0] * 1000) == [3000]


def test_the_matrix_is_put_in_the_order_of_the_class_index():
    ordered = by_class_index(TREE, [3, 1, 4, 2])  # class 0 has the ILSVRC ID 3
    assert ordered[0, 2] == TREE[2, 3]
    assert ordered[1, 3] == TREE[0, 1]
    assert ordered[0, 1] == TREE[2, 0]
