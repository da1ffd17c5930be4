"""One image file in, one square baseline JPEG out, its pixels looked at on the way.

Called by `data_shards.writing` for every sample, so that nothing undecodable ever reaches a loader.
"""

import io
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

QUALITY = 95
"""[CCN2 make-data] The author's own later tool stores 256 × 256 JPEGs of this quality."""


class BadImageError(ValueError):
    """The bytes are not an image that can be decoded whole."""


class SquareImage(NamedTuple):
    """A stored image and what had to be mended to make it."""

    jpeg: bytes
    mended: str | None


def to_square(data: bytes, side: int) -> SquareImage:
    """Return the centre square, `side` pixels wide, of the image scaled until its shorter side fits. [K12 §2]

    Area interpolation down, cubic up; quality 95, 4:2:0. EXIF orientation is ignored, as in 2012.

    Raises:
        BadImageError: empty, truncated or not an image.
    """
    pixels, mended = _decode(data)
    square = _centre_square(_scale(pixels, side), side)
    return SquareImage(simplejpeg.encode_jpeg(square, QUALITY, "RGB", "420"), mended)


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels (H, W, 3) of a JPEG written by `to_square`."""
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
    return pixels


def _decode(data: bytes) -> tuple[NDArray[np.uint8], str | None]:
    """RGB pixels, and in what way the file was not an RGB JPEG."""
    if not data:
        raise BadImageError("the file is empty")
    if not simplejpeg.is_jpeg(data):
        return _decode_other(data)
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ("CMYK", "YCCK"):
            return _decode_other(data)
        return decode_jpeg(data), "grey" if colours == "Gray" else None
    except ValueError as error:
        raise BadImageError(f"the JPEG is damaged ({error})") from error


def _decode_other(data: bytes) -> tuple[NDArray[np.uint8], str]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = f"{image.format} {image.mode}"
            return np.asarray(image.convert("RGB")), kind
    except UnidentifiedImageError as error:
        raise BadImageError(f"not an image; it begins with {data[:16]!r}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImageError(f"the image is damaged ({error})") from error


def _scale(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    if scale == 1:
        return pixels
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, size, interpolation=how)  # type: ignore[return-value]  # the stub forgets the dtype


def _centre_square(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
