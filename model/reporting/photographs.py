"""Photographs and class names as a figure shows them. Called by the other modules of `model.reporting`."""

import io
from collections.abc import Callable

from PIL import Image, ImageOps

from base.errors import InputError

Picture = Callable[[str], bytes]
"""Return the JPEG of an image by its key."""


def square(jpeg: bytes, side: int) -> Image.Image:
    """Return the centre square of an image, `side` pixels wide.

    Raises:
        InputError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.draft("RGB", (side, side))
            return ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS)
    except OSError as error:
        raise InputError(f"an image of {len(jpeg):,} bytes cannot be decoded ({error}); verify its shard set") from error


def first_synonym(words: str) -> str:
    """Return `tench` for `tench, Tinca tinca`. [CHM shownet.py]"""
    return words.split(",")[0].strip()
