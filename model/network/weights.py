"""A network on disk: one safetensors file, with what is needed to build the network and to feed it. Loading it runs no code."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from base.errors import InputError
from base.files import atomic_write
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours

METADATA_KEY = "alexnet"
MEAN_IMAGE = "mean_image"


class WeightsInfo(BaseModel):
    """What the parameters alone do not tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkConfig
    colours: Colours
    wnids: list[str]
    """The class of each output."""


def save_weights(network: AlexNet, info: WeightsInfo, path: Path) -> None:
    """Write the parameters, which can be on any devices, and `info`."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    if info.colours.mean_image is not None:
        tensors[MEAN_IMAGE] = info.colours.mean_image.cpu()
    content = save(tensors, metadata={METADATA_KEY: info.model_dump_json()})
    with atomic_write(path) as file:
        file.write(content)


def read_info(path: Path) -> WeightsInfo:
    """Return what a weights file holds besides the parameters.

    Raises:
        InputError: no such file, or not a weights file of this project.
    """
    if not path.is_file():
        raise InputError(f"no weights file {path}; expected the weights.safetensors of a finished run")
    try:
        with safe_open(path, framework="pt") as file:
            return WeightsInfo.model_validate(json.loads(file.metadata()[METADATA_KEY]))
    except (SafetensorError, KeyError, TypeError, ValidationError) as error:
        raise InputError(
            f"{path} is not a weights file written by this project ({type(error).__name__}); train one first"
        ) from error


def load_weights(path: Path) -> tuple[AlexNet, WeightsInfo]:
    """Return the network in `path` and what belongs to it.

    Raises:
        InputError: as `read_info`.
    """
    info = read_info(path)
    network = AlexNet(info.network)
    tensors = load_file(path)
    mean_image = tensors.pop(MEAN_IMAGE, None)
    network.load_state_dict(tensors)
    colours = info.colours.model_copy(update={"mean_image": mean_image})
    return network, info.model_copy(update={"colours": colours})


def copy_all_but_last(source: AlexNet, target: AlexNet) -> None:
    """Copy every layer of `source` into `target` except fc8 and a bottleneck before it. [K12 §6]

    Raises:
        InputError: the networks differ in more than their classes.
    """
    may_differ = ("num_classes", "dropout", "bottleneck")
    same = source.config.model_copy(update={name: getattr(target.config, name) for name in may_differ})
    if same != target.config:
        raise InputError(f"cannot fine-tune {target.config} from {source.config}: they must differ in their classes only")
    kept = {name: value for name, value in source.state_dict().items() if not name.startswith(("fc8.", "bottleneck."))}
    target.load_state_dict(kept, strict=False)


def copy_classes(source: AlexNet, known: Sequence[str], target: AlexNet, wnids: Sequence[str]) -> None:
    """Copy the rows of fc8 of the classes that both networks have, matched by WNID; the other rows stay as they are.

    `known` and `wnids` are the classes of the outputs of `source` and of `target`. Both have the same layers otherwise, and
    neither has a bottleneck.
    """
    places = {wnid: place for place, wnid in enumerate(known)}
    rows = [(row, places[wnid]) for row, wnid in enumerate(wnids) if wnid in places]
    if rows:
        into, out_of = (list(column) for column in zip(*rows, strict=True))
        with torch.no_grad():
            target.fc8.weight[into] = source.fc8.weight[out_of]
            target.fc8.bias[into] = source.fc8.bias[out_of]
