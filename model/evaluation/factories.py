"""Build a network that is not of this project: call its factory, load its weights.

Called by `build_classifier` and by `tasks.workers.embed`. The code of the factory runs, since it is the user's own; loading the
weights runs no code.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from base.errors import InputError, some
from model.evaluation.checkpoints import fit_names, load_checkpoint
from model.evaluation.classifiers import Factory, Triple


def call_factory(factory: str) -> nn.Module:
    """Return the network that `package.module:function` builds, without its weights.

    Raises:
        InputError: there is no such function, or it returns something else.
    """
    module, _, name = factory.partition(":")
    try:
        network = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"{factory} cannot be called ({error}); expected package.module:function without arguments") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{factory} returned a {type(network).__name__}; expected a torch module")
    return network


def build_network(factory: Factory, weights: Path, device: torch.device) -> tuple[nn.Module, list[str]]:
    """Return the network with its weights, ready to predict, and what was done to the names of its tensors.

    Raises:
        InputError: factory and weights do not fit together, or there is no such factory.
    """
    network = call_factory(factory.factory)
    notes = _load(network, weights, factory.factory)
    return network.to(device).eval(), notes


def prepare(factory: Factory) -> Callable[[Tensor], Tensor]:
    """Return what turns uint8 (N, H, W, 3) into the input of its network; see `normalise`."""
    return partial(normalise, mean=factory.mean, scale=factory.scale)


def try_out(network: nn.Module, factory: Factory, device: torch.device) -> Any:
    """Return what the network gives for one grey image, before hours are spent.

    Raises:
        InputError: it cannot read an image of that size.
    """
    side = factory.input_size
    try:
        with torch.inference_mode():
            return network(prepare(factory)(torch.full((1, side, side, 3), 128, dtype=torch.uint8, device=device)))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{factory.factory} cannot read an image of {side} × {side} px ({error})") from error


def normalise(images: Tensor, mean: Triple, scale: Triple) -> Tensor:
    """Turn uint8 (N, H, W, 3) into float32 (N, 3, H, W), channels-last in memory: (value − mean) ÷ scale."""
    values = images.to(torch.float32)
    return values.sub_(values.new_tensor(mean)).div_(values.new_tensor(scale)).permute(0, 3, 1, 2)


def _load(network: nn.Module, weights: Path, factory: str) -> list[str]:
    """Load the weights if torch's own strict loading accepts them; return what was done to the names of the tensors."""
    expected = network.state_dict()
    tensors, notes, _ = fit_names(load_checkpoint(weights), expected.keys())
    try:
        missing, unknown = network.load_state_dict(tensors, strict=False)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{weights} does not fit {factory}: {_first_misfit(tensors, expected) or error}") from error
    if missing or unknown:
        raise InputError(f"{weights} does not fit {factory}: {some(sorted(missing))} missing, {some(sorted(unknown))} unknown")
    return [f"{weights}: {note}" for note in notes]


def _first_misfit(tensors: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    for name in tensors.keys() & expected.keys():
        found, wanted = (getattr(one[name], "shape", None) for one in (tensors, expected))
        if found is not None and wanted is not None and found != wanted:
            return f"{name} is {tuple(found)}, expected {tuple(wanted)}"
    return None
