"""The hierarchical cost of ILSVRC-2010: the height at which a guess and the truth meet in the tree. [devkit-1.0 readme]

Called by `model.evaluation.rows` for measured rows and by `model.evaluation.submissions` for submitted files.
"""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
CostMatrix = NDArray[np.uint8]


def total_costs(guesses: Integers, true: Integers, cost_matrix: CostMatrix) -> Integers:
    """Return the cost summed over all images with the first one, two, … guesses (guesses,).

    An image costs the minimum over its guesses (N, guesses) of the cost against the truth (N,). `cost_matrix` (classes,
    classes) has the height of the lowest common ancestor. A guess that is missing or of another class, the
    number of classes or more, costs the maximum.
    """
    none = np.full(len(cost_matrix), cost_matrix.max(), np.int64)
    costs = np.vstack((cost_matrix, none))[np.minimum(guesses, len(cost_matrix)), true[:, None]]  # (N, guesses)
    totals: Integers = np.minimum.accumulate(costs, axis=1).sum(axis=0, dtype=np.int64)
    return totals


def by_class_index(cost_matrix: CostMatrix, ilsvrc_ids: list[int]) -> CostMatrix:
    """Return the devkit's matrix, ordered by ILSVRC ID, in the order of the class index; `ilsvrc_ids` has one ID per class."""
    places = np.array(ilsvrc_ids) - 1
    ordered: CostMatrix = cost_matrix[np.ix_(places, places)]
    return ordered
