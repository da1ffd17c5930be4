"""The hierarchical cost of ILSVRC-2010: how far up the tree a guess and the truth meet. [devkit-1.0 readme]

Called by `model.evaluation.tables` for measured rows and by `model.evaluation.submissions` for submitted files.
"""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def total_costs(guesses: Integers, true: Integers, cost_matrix: NDArray[np.uint8]) -> Integers:
    """Return the cost summed over all images with the first one, two, … guesses (guesses,).

    An image costs the least that any of its guesses (N, guesses) costs against the truth (N,); the height of the lowest common
    ancestor is `cost_matrix` (classes, classes). No guess, written as the number of classes, costs the most that there is.
    """
    none = np.full(len(cost_matrix), cost_matrix.max(), np.int64)
    costs = np.vstack((cost_matrix, none))[guesses, true[:, None]]  # (N, guesses)
    totals: Integers = np.minimum.accumulate(costs, axis=1).sum(axis=0, dtype=np.int64)
    return totals


def by_class_index(cost_matrix: NDArray[np.uint8], ilsvrc_ids: list[int]) -> NDArray[np.uint8]:
    """Return the matrix in the order of the class index; the devkit's follows the ILSVRC IDs, here those of the classes."""
    places = np.array(ilsvrc_ids) - 1
    ordered: NDArray[np.uint8] = cost_matrix[np.ix_(places, places)]
    return ordered
