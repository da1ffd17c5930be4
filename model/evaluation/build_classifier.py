"""Build any classifier, so that it is scored as our own networks are: call its factory, load its weights, order its classes.

Called by `tasks.workers.predict`. The code of the factory runs, since it is the user's own; loading the weights runs no code.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from base.errors import InputError
from model.evaluation.classifiers import Classifier, Triple
from model.evaluation.predict import Predictor


def build_classifier(classifier: Classifier, weights: Path, wnids: Sequence[str], device: torch.device) -> Predictor:
    """Return the classifier with its weights and its outputs in the order of the class index.

    Raises:
        InputError: its classes are not those of the images, or factory, weights and classes do not fit together.
    """
    columns = match_classes(classifier.wnids, wnids, classifier.factory)
    network = _build(classifier.factory)
    _load(network, weights, classifier.factory)
    network = network.to(device).eval()
    prepare = partial(normalise, mean=classifier.mean, scale=classifier.scale)
    predictor = Predictor(network, prepare, columns.to(device))
    _try_out(predictor, classifier, device)
    return predictor


def match_classes(theirs: Sequence[str], ours: Sequence[str], name: str) -> Tensor:
    """Return the position of each of our classes among theirs.

    Raises:
        InputError: a class is missing, unknown or listed twice.
    """
    if len(set(theirs)) != len(theirs):
        twice = next(wnid for n, wnid in enumerate(theirs) if wnid in theirs[:n])
        raise InputError(f"{name} names the class {twice} twice; expected each of the {len(ours):,} WNIDs once")
    missing, unknown = (sorted(set(a) - set(b)) for a, b in ((ours, theirs), (theirs, ours)))
    if missing or unknown:
        raise InputError(
            f"{name} has {len(theirs):,} classes and the images have {len(ours):,}: {_some(missing)} missing, "
            f"{_some(unknown)} unknown; expected the same WNIDs in any order"
        )
    place = {wnid: n for n, wnid in enumerate(theirs)}
    return torch.tensor([place[wnid] for wnid in ours])


def normalise(images: Tensor, mean: Triple, scale: Triple) -> Tensor:
    """Turn uint8 (N, H, W, 3) into float32 (N, 3, H, W), channels-last in memory: (value − mean) ÷ scale."""
    values = images.to(torch.float32)
    return values.sub_(values.new_tensor(mean)).div_(values.new_tensor(scale)).permute(0, 3, 1, 2)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.safetensors` file or of a state dict saved by torch, without running code from the file.

    Raises:
        InputError: there is no such file, it is neither of these, or it is a pickle that wants to run code.
    """
    if not path.is_file():
        raise InputError(f"no weights file {path}; expected safetensors or a state dict saved by torch.save")
    try:
        return load_file(path)
    except SafetensorError:
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch warns about is refused below
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # other bytes can make it raise anything
        raise InputError(
            f"{path} is neither safetensors nor a state dict of plain tensors, and no code in it will be run; "
            f"save the state_dict() of the model"
        ) from error
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds a {type(found).__name__} and not tensors by name; save the state_dict() of the model")
    return found


def _build(factory: str) -> nn.Module:
    module, _, name = factory.partition(":")
    try:
        network = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"{factory} cannot be called ({error}); expected package.module:function without arguments") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{factory} returned a {type(network).__name__}; expected a torch module")
    return network


def _load(network: nn.Module, weights: Path, factory: str) -> None:
    tensors = load_tensors(weights)
    expected = network.state_dict()
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise InputError(f"{weights} does not fit {factory}: {_some(missing)} missing, {_some(unknown)} unknown")
    for name, value in tensors.items():
        if value.shape != expected[name].shape:
            raise InputError(
                f"{weights} does not fit {factory}: {name} is {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            )
    network.load_state_dict(tensors)


def _try_out(predictor: Predictor, classifier: Classifier, device: torch.device) -> None:
    """Check with one grey image that the sizes fit, before hours are spent."""
    side, num_classes = classifier.input_size, len(classifier.wnids)
    try:
        with torch.inference_mode():
            logits = predictor.network(predictor.prepare(torch.full((1, side, side, 3), 128, dtype=torch.uint8, device=device)))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{classifier.factory} cannot read an image of {side} × {side} px ({error})") from error
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (1, num_classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{classifier.factory} gave {found} for one image; expected logits (1, {num_classes:,}), one per WNID")


def _some(names: Sequence[str]) -> str:
    """Return how many there are, and the first three."""
    return f"{len(names):,} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else "none"
