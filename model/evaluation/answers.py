"""What a network or an ensemble says of every image of a split, without the full probabilities: all that tables are made of.

Read from predictions files by `model.evaluation.predictions`, averaged from several by `model.evaluation.ensembles`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.evaluation.error_rates import ErrorCounts, best_classes, true_ranks

NUM_BEST = 5
"""[K12 §4.1] Classes that a top-5 answer holds."""


class Labels(NamedTuple):
    """Ranks and probabilities of the true classes."""

    class_indices: NDArray[np.int64]
    """(N,)"""
    ranks: NDArray[np.int64]
    """(N,) From 1."""
    log_probs: NDArray[np.float64]
    """(N,) Natural logarithm of the true class's probability; the smallest float32 stands in for zero."""


@dataclass(frozen=True)
class Answers:
    """The best classes for every image, and where the images have labels, how the true class fared."""

    image_ids: list[str]
    wnids: list[str]
    """The WNID of each class index."""
    best: NDArray[np.int64]
    """(N, 5) Class indices, most probable first; fewer columns where there are fewer classes."""
    labels: Labels | None
    """None where the split has no labels, as the test set of ILSVRC-2012."""

    def count_errors(self) -> ErrorCounts | None:
        """Count over the whole split; None where it has no labels."""
        if self.labels is None:
            return None
        ranks = self.labels.ranks
        return ErrorCounts(len(ranks), int((ranks > 1).sum()), int((ranks > NUM_BEST).sum()))

    def log_loss(self) -> float | None:
        """Mean −log p of the true class, in nats; None without labels."""
        return None if self.labels is None else -float(self.labels.log_probs.mean())


def judge(probs: Tensor, class_indices: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], Labels | None]:
    """Return the best classes by `probs` (N, classes), and how the true classes (N,) fare where they are known.

    Raises:
        ValueError: a probability is not a finite number; it would be ranked as if it were right.
    """
    if not bool(torch.isfinite(probs.sum())):  # one number that is not makes the sum none
        raise ValueError("probabilities that are not finite numbers; the network's weights or its inputs are broken")
    best = best_classes(probs, NUM_BEST).numpy()
    if class_indices is None:
        return best, None
    true = torch.tensor(class_indices)
    true_probs = probs.gather(1, true[:, None])[:, 0].double()
    log_probs = true_probs.clamp_min(torch.finfo(torch.float32).tiny).log()
    return best, Labels(class_indices, true_ranks(probs, true).numpy(), log_probs.numpy())
