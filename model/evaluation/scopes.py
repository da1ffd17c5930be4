"""Which images of a predictions file count, among which classes they are ranked, and which of these are right.

A scope turns predictions that exist into the answers of another measurement: among the classes of another test set, or by
other labels. Called by `tasks.tabulate`; used by `model.evaluation.ensembles`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from base.errors import InputError
from model.evaluation.answers import Answers, Labels
from model.evaluation.error_rates import NUM_BEST
from model.evaluation.predictions import PredictionsFile

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Scope:
    """The images and classes of one measurement, N images in all."""

    image_ids: list[str]
    """Those that count."""
    wnids: list[str]
    """The classes that are ranked."""
    class_indices: Integers | None
    """(N,) Each image's own class among them; None without labels."""
    right: Integers | None = None
    """(N, most) The classes that are right for an image, repeated if it has fewer; None if only its own one is."""
    kept: NDArray[np.bool_] | None = None
    """Which images of the file count; None for all."""
    columns: Integers | None = None
    """The class indices of `wnids` in the file; None for all, in their order."""

    def blank(self) -> Answers:
        """Return empty answers to be filled in block by block: small arrays kept per block would fragment the memory."""
        num_images, num_best = len(self.image_ids), min(NUM_BEST, len(self.wnids))
        labels = None
        if self.class_indices is not None:
            labels = Labels(self.class_indices, np.empty(num_images, np.int64), np.empty(num_images))
        return Answers(self.image_ids, self.wnids, np.empty((num_images, num_best), np.int64), labels)

    def places(self, rows: slice) -> slice:
        """Return where the images of some rows of the file are among those that count."""
        return rows if self.kept is None else slice(int(self._before[rows.start]), int(self._before[rows.stop]))

    def chosen(self, probs: Tensor, rows: slice) -> Tensor:
        """Return the probabilities of the images that count and of the classes that are ranked."""
        if self.kept is not None:
            probs = probs[torch.from_numpy(self.kept[rows])]
        return probs if self.columns is None else probs[:, torch.from_numpy(self.columns)]

    def true_classes(self, probs: Tensor, places: slice) -> Integers | None:
        """Return the class (N,) by which each image is judged: of several right ones, the one with the most probability."""
        if self.right is None:
            return None if self.class_indices is None else self.class_indices[places]
        right = torch.from_numpy(self.right[places])
        values = probs.gather(1, right)
        best: Integers = right.where(values == values.amax(1, keepdim=True), probs.shape[1]).amin(1).numpy()
        return best

    def log_totals(self, probs: Tensor) -> NDArray[np.float64] | float:
        """Return the logarithm (N,) of what the ranked classes' probabilities sum to; 0 if all classes are ranked."""
        if self.columns is None:
            return 0.0
        return probs.double().clamp_min(0).sum(1).clamp_min(torch.finfo(torch.float32).tiny).log().numpy()

    @cached_property
    def _before(self) -> Integers:
        """The number of images that count before each row of the file."""
        kept = np.asarray(self.kept, np.int64)
        return np.concatenate((np.zeros(1, np.int64), kept.cumsum()))


def whole(file: PredictionsFile) -> Scope:
    """Return the scope of all images, ranked among all classes by their own labels."""
    return Scope(file.image_ids, file.wnids, file.class_indices)


def among(file: PredictionsFile, wnids: Collection[str]) -> Scope:
    """Return the scope of the images of some classes, ranked among these classes only. [ImageNet-A, ImageNet-R]

    Raises:
        InputError: a class that the file does not have, or no image of any of them.
    """
    if unknown := sorted(set(wnids) - set(file.wnids)):
        raise InputError(
            f"{file.path} has no probabilities for {len(unknown):,} of the {len(wnids):,} classes, such as {unknown[0]}; "
            f"expected networks that know all of them"
        )
    columns = np.array([n for n, wnid in enumerate(file.wnids) if wnid in set(wnids)])
    true = _labelled(file)
    kept = np.isin(true, columns)
    if not kept.any():
        raise InputError(f"{file.path} has no image of the {len(wnids):,} classes; expected at least one")
    ids = [image_id for image_id, keep in zip(file.image_ids, kept, strict=True) if keep]
    names = [file.wnids[n] for n in columns]
    return Scope(ids, names, np.searchsorted(columns, true[kept]), None, kept, columns)


def relabelled(file: PredictionsFile, labels: Mapping[str, Sequence[str]]) -> Scope:
    """Return the scope in which any of an image's `labels`, the WNIDs of its classes, is right; without any it does not count.

    Raises:
        InputError: an image that has no entry, a label that the file has no probabilities for, or no image with a label.
    """
    if missing := [image_id for image_id in file.image_ids if image_id not in labels]:
        raise InputError(f"the labels have no entry for {len(missing):,} images of {file.path}, such as {missing[0]}")
    kept = np.array([bool(labels[image_id]) for image_id in file.image_ids])
    if not kept.any():
        raise InputError(f"none of the {len(kept):,} images of {file.path} has a label; expected at least one")
    ids = [image_id for image_id in file.image_ids if labels[image_id]]
    index = {wnid: n for n, wnid in enumerate(file.wnids)}
    if unknown := sorted({wnid for image_id in ids for wnid in labels[image_id]} - index.keys()):
        raise InputError(
            f"the labels name {len(unknown):,} classes that {file.path} has no probabilities for, such as {unknown[0]}; "
            f"expected networks that know all of them, and for other classifiers --other-classes rank"
        )
    most = max(len(labels[image_id]) for image_id in ids)
    padded = [[*found, *[found[0]] * (most - len(found))] for found in (labels[image_id] for image_id in ids)]
    right = np.array([[index[wnid] for wnid in found] for found in padded])
    return Scope(ids, file.wnids, _labelled(file)[kept], right, kept)


def _labelled(file: PredictionsFile) -> Integers:
    if file.class_indices is None:
        raise InputError(f"{file.path} has no labels; expected those of a labelled split such as val")
    return file.class_indices
