"""Read the tensors of a weights file as training scripts write them, and give them the names that the network expects.

Called by `model.evaluation.build_classifier`. No code from the file is run.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from base.errors import InputError

ENTRIES = ("state_dict", "model_state_dict", "model", "net", "network", "module")
"""Under which training scripts keep the weights in a checkpoint, the first that is there: Lightning and timm, torch's tutorial,
Facebook's and torchvision's scripts, DeepSpeed."""
LIGHTNING = "pytorch-lightning_version"
"""An entry of every checkpoint that Lightning writes. Its names begin with the attribute that holds the network."""
WRAPPERS = {"module": "DataParallel", "_orig_mod": "torch.compile"}
"""What the wrappers of torch put into the names of tensors."""
EXTRA_STATE = "_extra_state"
"""[torch Module.get_extra_state] The end of the name of an entry that need not be a tensor."""


class Checkpoint(NamedTuple):
    """What a weights file holds."""

    tensors: Mapping[str, Any]
    """By name, perhaps with the versions of the modules, `_metadata`, as torch writes them."""
    notes: tuple[str, ...] = ()
    """What to tell the user: what was taken and what was not."""
    is_lightning: bool = False


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the tensors of safetensors, of a state dict saved by torch, or of a checkpoint that holds one.

    Raises:
        InputError: there is no such file, it is none of these, or it is a pickle that wants to run code.
    """
    if not path.is_file():
        raise InputError(f"no weights file {path}; expected safetensors or a state dict saved by torch.save")
    try:
        return Checkpoint(load_file(path))
    except SafetensorError:
        found = _load_by_torch(path)
    if _is_state_dict(found):
        return Checkpoint(found)
    entry = next((name for name in ENTRIES if isinstance(found, dict) and _is_state_dict(found.get(name))), None)
    if entry is None:
        what = f"a dictionary of {_listed(found)}" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise InputError(
            f"{path} holds {what} and not tensors by name, also not as {' or '.join(ENTRIES)}; "
            f"save the state_dict() of the model"
        )
    others = [name for name, value in found.items() if name != entry and _is_state_dict(value)]
    unused = f"; not used: {_listed(others)}" if others else ""
    return Checkpoint(found[entry], (f"took {entry!r} of the checkpoint{unused}",), LIGHTNING in found)


def fit_names(checkpoint: Checkpoint, expected: Set[str]) -> Checkpoint:
    """Return the checkpoint without what wrappers put before the names that the network expects."""
    for wrapper in WRAPPERS:
        checkpoint = _unwrapped(checkpoint, wrapper, expected)
    if expected & checkpoint.tensors.keys():
        return checkpoint
    inner: dict[str, int] = {}
    for name in checkpoint.tensors:
        first, _, rest = name.partition(".")
        inner[first] = inner.get(first, 0) + (rest in expected)
    best = max(inner, key=lambda first: inner[first], default=None)
    if best is None or not inner[best] or (len(inner) > 1 and not checkpoint.is_lightning):
        return checkpoint
    unused = f"; not used: what begins with {_listed([first for first in inner if first != best])}" if len(inner) > 1 else ""
    note = f"took {best + '.'!r} off the names of tensors{unused}"
    return _renamed(checkpoint, note, lambda name: name[len(best) + 1 :] if f"{name}.".startswith(f"{best}.") else None)


def _unwrapped(checkpoint: Checkpoint, wrapper: str, expected: Set[str]) -> Checkpoint:
    """Return the checkpoint with the wrapper's name taken out, wherever it is, if the network itself does not have it."""
    has_it = any(wrapper in name.split(".") for name in checkpoint.tensors)
    if not has_it or any(wrapper in name.split(".") for name in expected):
        return checkpoint
    note = f"took {wrapper + '.'!r} out of the names of tensors, which {WRAPPERS[wrapper]} adds"
    return _renamed(checkpoint, note, lambda name: ".".join(part for part in name.split(".") if part != wrapper))


def _renamed(checkpoint: Checkpoint, note: str, rename: Callable[[str], str | None]) -> Checkpoint:
    """Return the checkpoint with other names for its tensors and for the modules in its `_metadata`; None leaves one out.

    Raises:
        InputError: two tensors would have one name.
    """
    tensors: OrderedDict[str, Any] = OrderedDict()
    for old, value in checkpoint.tensors.items():
        new = rename(old)
        if new in tensors:
            raise InputError(f"the checkpoint holds {old} and {new}, two tensors of one name; keep one of them")
        if new is not None:
            tensors[new] = value
    modules = getattr(checkpoint.tensors, "_metadata", {})
    renamed = {rename(old): version for old, version in modules.items()}
    vars(tensors)["_metadata"] = {new: version for new, version in renamed.items() if new is not None}
    return Checkpoint(tensors, (*checkpoint.notes, note), checkpoint.is_lightning)


def _load_by_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # what torch warns about is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # other bytes can make it raise anything
        raise InputError(
            f"{path} is neither safetensors nor a state dict of plain tensors, and no code in it will be run{_code_in(path)}; "
            f"save the state_dict() of the model"
        ) from error


def _code_in(path: Path) -> str:
    """Return what of Python a file of torch names, such as `argparse.Namespace`."""
    try:
        with warnings.catch_warnings(action="ignore"):
            found = get_unsafe_globals_in_checkpoint(path)
    except Exception:  # it is not a file of torch
        return ""
    return f": it names {_listed(sorted(found))}" if found else ""


def _is_state_dict(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and any(isinstance(value, Tensor) for value in found.values())
        and all(
            isinstance(name, str) and (isinstance(value, Tensor) or name.endswith(EXTRA_STATE)) for name, value in found.items()
        )
    )


def _listed(names: Iterable[object]) -> str:
    """Return the first five names."""
    shown = [str(name) for name in names]
    return ", ".join(shown[:5]) + (", …" if len(shown) > 5 else "")
