"""The setting that decides what a shard keeps of an image: `square256`, `shorter256` or `original`."""

import re
from typing import Literal, NamedTuple, cast

from base.errors import InputError

STORAGE_PATTERN = r"^(original|(square|shorter)(6[4-9]|[7-9]\d|[1-9]\d\d|[1-3]\d{3}|40[0-8]\d|409[0-6]))$"
"""(ours) Sides of 64 to 4096 pixels."""


class Storage(NamedTuple):
    """What is kept of an image."""

    shape: Literal["square", "shorter", "original"]
    side: int | None
    """Of the square, or the shorter one of the image, in pixels; None for `original`."""


def parse_storage(text: str) -> Storage:
    """Return what `square256`, `shorter256` or `original` means.

    Raises:
        InputError: it is none of these.
    """
    if not re.fullmatch(STORAGE_PATTERN, text):
        raise InputError(
            f"unknown storage {text!r}; expected original, or square or shorter with a side of 64 to 4096: square256"
        )
    shape = cast(Literal["square", "shorter", "original"], text.rstrip("0123456789"))
    return Storage(shape, None if shape == "original" else int(text.removeprefix(shape)))
