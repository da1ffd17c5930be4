"""Any classifier, to be scored as our own networks are: a factory that builds it, weights, and how it is to be fed.

Built by `tasks.workers.predict`. The factory's code runs, for it is the user's own; loading the weights runs no code.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from model.evaluation.predict import Member

Triple = tuple[float, float, float]


class Classifier(BaseModel):
    """How a network that is not of this project is built and fed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    factory: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`package.module:function`; called without arguments it returns a torch module that gives logits (N, classes)."""
    input_size: int = Field(224, gt=0)
    """(ours) Side in pixels of the square crops that it reads; the usual size."""
    mean: Triple = (123.675, 116.28, 103.53)
    """(ours) Of red, green and blue in 0…255, subtracted; the usual values of ImageNet."""
    scale: Triple = (58.395, 57.12, 57.375)
    """(ours) What is left is divided by these; the usual values of ImageNet, in 0…255."""
    wnids: tuple[str, ...] = Field(min_length=2)
    """The WNID of each of its outputs, in their order."""


def build_member(classifier: Classifier, weights: Path, wnids: Sequence[str], device: torch.device) -> Member:
    """Return the classifier with its weights, its outputs put in the order of the class index.

    Raises:
        ValueError: its classes are not those of the images, or factory, weights and classes do not fit each other.
        OSError: the weights cannot be read.
    """
    columns = match_classes(classifier.wnids, wnids, classifier.factory)
    network = _build(classifier.factory)
    _load(network, weights, classifier.factory)
    network = network.to(device).eval()
    prepare = partial(normalise, mean=classifier.mean, scale=classifier.scale)
    member = Member(network, prepare, columns.to(device))
    _try_out(member, classifier, device)
    return member


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the WNIDs of a text file, one a line.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not text, or a line holds more than one word.
    """
    if not path.expanduser().is_file():
        raise FileNotFoundError(f"no class list {path}; expected a text file with one WNID a line, in the order of the outputs")
    try:
        lines = path.expanduser().read_text("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file; expected one WNID a line") from error
    for number, line in enumerate(lines, start=1):
        if len(line.split()) != 1:
            raise ValueError(f"{path}, line {number:,}: found {line[:40]!r}, expected one WNID")
    return tuple(line.strip() for line in lines)


def match_classes(theirs: Sequence[str], ours: Sequence[str], name: str) -> Tensor:
    """Return for each of our classes the place that it has in their order.

    Raises:
        ValueError: a class is missing, unknown or there twice.
    """
    if len(set(theirs)) != len(theirs):
        twice = next(wnid for n, wnid in enumerate(theirs) if wnid in theirs[:n])
        raise ValueError(f"{name} names the class {twice} twice; expected each of the {len(ours):,} WNIDs once")
    missing, unknown = (sorted(set(a) - set(b)) for a, b in ((ours, theirs), (theirs, ours)))
    if missing or unknown:
        raise ValueError(
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
    """Return the tensors of a `.safetensors` file or of a state dict that torch saved, running nothing that the file says.

    Raises:
        FileNotFoundError: no such file.
        ValueError: neither, or a pickle that asks for code to be run.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}; expected safetensors or a state dict saved by torch.save")
    try:
        return load_file(path)
    except SafetensorError:
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch warns of is refused below, in a sentence
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no state dict can make it raise anything
        raise ValueError(
            f"{path} is neither safetensors nor a state dict of plain tensors, and nothing else in it will be run; "
            f"save the model's state_dict()"
        ) from error
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path} holds a {type(found).__name__} and not tensors by name; save the model's state_dict()")
    return found


def _build(factory: str) -> nn.Module:
    module, _, name = factory.partition(":")
    try:
        network = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"{factory} cannot be called ({error}); expected package.module:function without arguments") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{factory} returned a {type(network).__name__}; expected a torch module")
    return network


def _load(network: nn.Module, weights: Path, factory: str) -> None:
    tensors = load_tensors(weights)
    expected = network.state_dict()
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(f"{weights} does not fit {factory}: {_some(missing)} missing, {_some(unknown)} unknown")
    for name, value in tensors.items():
        if value.shape != expected[name].shape:
            raise ValueError(
                f"{weights} does not fit {factory}: {name} is {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
            )
    network.load_state_dict(tensors)


def _try_out(member: Member, classifier: Classifier, device: torch.device) -> None:
    """One grey image, to see that the sizes fit before hours are spent."""
    side, num_classes = classifier.input_size, len(classifier.wnids)
    try:
        with torch.inference_mode():
            logits = member.network(member.prepare(torch.full((1, side, side, 3), 128, dtype=torch.uint8, device=device)))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{classifier.factory} cannot read an image of {side} × {side} px ({error})") from error
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (1, num_classes):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{classifier.factory} gave {found} for one image; expected logits (1, {num_classes:,}), one a WNID")


def _some(names: Sequence[str]) -> str:
    """How many there are, and the first of them."""
    return f"{len(names):,} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else "none"
