"""Predictions of two networks to which images each has wrong, also if one knows classes that the other does not."""

from collections.abc import Collection

import numpy as np

from base.errors import InputError
from model.evaluation.predictions import PredictionsFile
from model.retraining.rules import Wrong


def wrong_among(file: PredictionsFile, wnids: Collection[str]) -> Wrong:
    """Return which images of these classes are wrong at rank one, if only these classes are ranked.

    Files of more than 2,000 classes hold no probabilities; there all classes are ranked, which is against a network that knows
    more of them.

    Raises:
        InputError: the images have no labels.
    """
    indices, answers = file.class_indices, file.answers()
    if indices is None or answers.labels is None:
        raise InputError(f"the images of {file.path} have no labels; evaluate on a split whose labels are public")
    chosen = np.array([place for place, wnid in enumerate(file.wnids) if wnid in wnids], np.int64)
    among = np.isin(indices, chosen)
    if len(chosen) in (0, len(file.wnids)) or "probs" not in file.file.schema_arrow.names:
        return (answers.labels.ranks > 1)[among]
    best = np.concatenate([chosen[block[:, chosen].argmax(axis=1)] for block in file.probs()])
    wrong: Wrong = best != indices
    return wrong[among]
