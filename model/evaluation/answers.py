"""The answers of a network or an ensemble for every image of a split, without the full probabilities.

`model.evaluation.predictions` reads them from a predictions file, `model.evaluation.ensembles` averages several files.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from base.errors import InputError
from model.evaluation.error_rates import NUM_BEST, ErrorCounts, best_classes, true_ranks


class Labels(NamedTuple):
    """Ranks and probabilities of the true classes."""

    class_indices: NDArray[np.int64]
    """(N,)"""
    ranks: NDArray[np.int64]
    """(N,) From 1."""
    log_probs: NDArray[np.float64]
    """(N,) Natural logarithm of the probability of the true class; a probability of zero counts as the smallest float32."""


@dataclass(frozen=True)
class Answers:
    """The best classes of every image and, if the images have labels, rank and probability of the true class."""

    image_ids: list[str]
    wnids: list[str]
    """The WNID of each class index."""
    best: NDArray[np.int64]
    """(N, 5) Class indices, most probable first; fewer columns if there are fewer classes."""
    labels: Labels | None
    """None if the split has no labels, as the test set of ILSVRC-2012."""

    def count_errors(self) -> ErrorCounts | None:
        """Return the counts over the whole split; None without labels."""
        if self.labels is None:
            return None
        ranks = self.labels.ranks
        return ErrorCounts(len(ranks), int((ranks > 1).sum()), int((ranks > NUM_BEST).sum()))

    def log_loss(self) -> float | None:
        """Return the mean −log p of the true class, in nats; None without labels."""
        return None if self.labels is None else -float(self.labels.log_probs.mean())


def judge(probs: Tensor, class_indices: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], Labels | None]:
    """Return the best classes by `probs` (N, classes) and, if the true classes (N,) are known, their ranks and probabilities.

    Raises:
        InputError: a probability is not a finite number; it would be ranked as if it were right.
    """
    if not bool(torch.isfinite(probs.sum())):  # the sum is finite only if every term is
        raise InputError("found probabilities that are not finite numbers; the weights of the network or its inputs are broken")
    best = best_classes(probs, NUM_BEST).numpy()
    if class_indices is None:
        return best, None
    true = torch.tensor(class_indices)
    true_probs = probs.gather(1, true[:, None])[:, 0].double()
    log_probs = true_probs.clamp_min(torch.finfo(torch.float32).tiny).log()
    return best, Labels(class_indices, true_ranks(probs, true).numpy(), log_probs.numpy())
