"""Order the classes of any classifier, so that it is scored as our own networks are. Called by `tasks.workers.predict`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

import torch
from torch import Tensor, nn

from base.errors import InputError, some
from model.evaluation.classifiers import Classifier, OtherClasses
from model.evaluation.error_rates import NUM_BEST
from model.evaluation.factories import build_network, prepare, try_out
from model.evaluation.predict import Predictor


class Outputs(NamedTuple):
    """How the outputs of a network are ranked."""

    wnids: list[str]
    """The classes that are ranked: those of the images by class index, then perhaps others."""
    columns: Tensor
    """The output that belongs to each of them, among those that are kept; their number if there is none."""
    kept: Tensor | None
    """The outputs that are ranked; None for all."""
    note: str
    """What to tell the user; empty if the classes are the same."""


class Kept(nn.Module):
    """A network with some of its outputs left out."""

    def __init__(self, network: nn.Module, kept: Tensor) -> None:
        super().__init__()
        self.network, self.kept = network, kept

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, kept)."""
        logits: Tensor = self.network(images)
        return logits[:, self.kept]


def build_classifier(
    classifier: Classifier, weights: Path, wnids: Sequence[str], device: torch.device, say: Callable[[str], None]
) -> tuple[Predictor, list[str]]:
    """Return the classifier with its weights, and the classes that its probabilities belong to: first those of the images.

    What was done to fit the weights and the classes goes to `say`.

    Raises:
        InputError: its classes are not those of the images, or factory, weights and classes do not fit together.
    """
    outputs = match_classes(classifier.wnids, wnids, classifier.factory, classifier.other_classes)
    network, notes = build_network(classifier, weights, device)
    logits, num_classes = try_out(network, classifier, device), len(classifier.wnids)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (1, num_classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{classifier.factory} gave {found} for one image; expected logits (1, {num_classes:,}), one per WNID")
    for note in (*notes, outputs.note):
        if note:
            say(note)
    if outputs.kept is not None:
        network = Kept(network, outputs.kept.to(device)).eval()
    return Predictor(network, prepare(classifier), outputs.columns.to(device)), outputs.wnids


def match_classes(theirs: Sequence[str], ours: Sequence[str], name: str, other: OtherClasses | None = None) -> Outputs:
    """Return where each of our classes is among theirs.

    Raises:
        InputError: a class is listed twice; or one is missing or unknown and `other` does not allow that, or too few are known.
    """
    if len(set(theirs)) != len(theirs):
        twice = next(wnid for n, wnid in enumerate(theirs) if wnid in theirs[:n])
        raise InputError(f"{name} names the class {twice} twice; expected each WNID once")
    place = {wnid: n for n, wnid in enumerate(theirs)}
    known = {normalize("NFC", wnid) for wnid in ours}
    missing, unknown = sorted(known - place.keys()), [wnid for wnid in theirs if wnid not in known]
    differ = (
        f"{name} has {len(theirs):,} classes and the images have {len(ours):,}: {some(missing)} missing, "
        f"{some(sorted(unknown))} unknown"
    )
    if (missing or unknown) and other is None:
        raise InputError(
            f"{differ}; expected the same WNIDs in any order; with --other-classes unknown ones are left out of the ranking "
            f"(leave-out) or ranked as wrong answers (rank), and images of missing ones count as wrong"
        )
    if len(known) - len(missing) < 2 or (missing and len(theirs) - len(unknown) * (other == "leave-out") < NUM_BEST):
        raise InputError(f"{differ}; expected {NUM_BEST} outputs or more to rank, and two or more of the images' classes")
    kept = [n for n, wnid in enumerate(theirs) if wnid in known] if other == "leave-out" and unknown else None
    column = place if kept is None else {theirs[n]: column for column, n in enumerate(kept)}
    ranked = [*ours, *(unknown if kept is None else [])]
    columns = torch.tensor([column.get(normalize("NFC", wnid), len(column)) for wnid in ranked])
    what = "left out of the ranking" if kept is not None else "ranked as wrong answers"
    said = [f"outputs of unknown classes are {what}"] * bool(unknown) + ["images of missing ones count as wrong"] * bool(
        missing
    )
    return Outputs(
        ranked, columns, None if kept is None else torch.tensor(kept), f"{differ}: {', '.join(said)}" if said else ""
    )
