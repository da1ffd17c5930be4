"""How a network that is not from this project is built and fed: a field of job files, so this imports no torch.

`model.evaluation.factories` builds the network, `model.evaluation.build_classifier` makes a classifier of it.
"""

import sys
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from base.errors import InputError

Triple = tuple[float, float, float]
OtherClasses = Literal["leave-out", "rank"]


class Factory(BaseModel):
    """How a network that is not from this project is built and fed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    factory: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`package.module:function`; called without arguments, it returns a torch module that reads (N, 3, H, W)."""
    input_size: int = Field(224, gt=0)
    """(ours) Side of its square crops in pixels; the usual size."""
    mean: Triple = (123.675, 116.28, 103.53)
    """(ours) Mean of red, green and blue in 0…255, which is subtracted; the usual values for ImageNet."""
    scale: Triple = (58.395, 57.12, 57.375)
    """(ours) Divisors after that; the usual values for ImageNet, in 0…255."""

    @property
    def fed(self) -> dict[str, Any]:
        """What the files made with it say about its inputs."""
        return self.model_dump(include={"factory", "mean", "scale"})


class Classifier(Factory):
    """Such a network that gives logits (N, classes), and what its outputs mean."""

    wnids: tuple[str, ...] = Field(min_length=2)
    """The WNID of each of its outputs, in their order."""
    other_classes: OtherClasses | None = None
    """(ours) What happens to outputs of classes that the images do not have: they are left out of the ranking, or ranked as
    wrong answers. With either the images may have classes without an output. By default both are refused."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is None is absent, so that a new field changes no key."""
        return {name: value for name, value in handler(self).items() if value is not None}


def import_from(folder: Path) -> None:
    """Let modules of the folder be imported, behind those of this project."""
    if str(folder) not in sys.path[:2]:
        sys.path.insert(1, str(folder))


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the WNIDs of a text file with one per line.

    Raises:
        InputError: there is no such file, it is not text, or a line is not one word.
    """
    if not path.expanduser().is_file():
        raise InputError(f"no class list {path}; expected a text file with one WNID per line, in the order of the outputs")
    try:
        lines = path.expanduser().read_text("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file; expected one WNID per line") from error
    for number, line in enumerate(lines, start=1):
        if len(line.split()) != 1:
            raise InputError(f"{path}, line {number:,}: found {line[:40]!r}, expected one WNID")
    return tuple(normalize("NFC", line.strip()) for line in lines)
