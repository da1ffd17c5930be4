"""One image file to one RGB JPEG.

Called by `data_shards.writing` for every sample. Every pixel is decoded here, so that no loader meets a damaged image.
"""

from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from data_shards.decoding import MAX_PIXELS, BadImageError, check_end, decode, read_header, unwrap
from data_shards.storage import Storage

QUALITY = 95
"""[CCN2 make-data] The author's own later tool stores 256 × 256 JPEGs of this quality."""

MAX_SIDE = 65_500
"""(ours) The longest side that libjpeg writes."""

MAX_ELONGATION = 16
"""(ours) If only a square is kept of an image more elongated than this, only its middle is scaled up."""

Pixels = NDArray[np.uint8]


class StoredImage(NamedTuple):
    """A stored image, and what its source was."""

    jpeg: bytes
    height: int
    """Of what is stored, in pixels."""
    width: int
    mended: str | None
    """What the source was if it was converted: `grey`, `JPEG CMYK`, `PNG I;16`, `gzip`, `gzip, PNG RGB`."""
    orientation: int | None
    """The EXIF orientation, 2 to 8, which was ignored; None for upright or unknown."""


def store(data: bytes, storage: Storage, check: bool = True) -> StoredImage:
    """Return the JPEG to keep of an image file. EXIF orientation is ignored, as in 2012. [K12 §2]

    `square`: the image scaled until its shorter side fits, and of that the centre. `shorter`: all of the scaled image. Area
    interpolation down, cubic up; quality 95, 4:2:0. `original`: an RGB JPEG's own bytes; any other file as an RGB JPEG of its
    own size. Without `check` those bytes are not decoded: only their header and the mark of their end are read.

    Raises:
        BadImageError: empty, truncated, damaged, too large or not an image.
    """
    data, wrapping = unwrap(data)
    header = read_header(data)
    if header and header.channels == 3 and storage.side is None:
        decode(data, header) if check else check_end(data, header)
        return StoredImage(data, header.height, header.width, wrapping, header.orientation)
    image = decode(data, header)
    kept = _kept(image.pixels, storage)
    jpeg: bytes = simplejpeg.encode_jpeg(kept, QUALITY, "RGB", "420")
    mended = ", ".join(filter(None, (wrapping, image.kind))) or None
    return StoredImage(jpeg, kept.shape[0], kept.shape[1], mended, image.orientation)


def _kept(pixels: Pixels, storage: Storage) -> Pixels:
    height, width = pixels.shape[:2]
    side = storage.side or min(height, width)
    scale = side / min(height, width)
    size = max(side, round(height * scale)), max(side, round(width * scale))
    kept = (side, side) if storage.shape == "square" else size
    if max(kept) > MAX_SIDE or kept[0] * kept[1] > MAX_PIXELS:
        raise BadImageError(
            f"{width:,} × {height:,} pixels would be stored as {kept[1]:,} × {kept[0]:,}; "
            f"expected at most {MAX_SIDE:,} a side and {MAX_PIXELS:,} in all"
        )
    return resize_middle(pixels, size, kept)


def resize_middle(pixels: Pixels, size: tuple[int, int], kept: tuple[int, int]) -> Pixels:
    """Return the middle `kept` (height, width) of the pixels (H, W, 3) scaled to `size`: by area down, by cubics up."""
    height, width = pixels.shape[:2]
    if size == (height, width):
        return _middle(pixels, kept)
    if size[0] > height or size[1] > width:
        return _middle(_scale_up(pixels, size, kept), kept)
    from data_shards.scaling import scale_down  # numba: only processes that need it import it

    return scale_down(pixels, size, kept)


def _scale_up(pixels: Pixels, size: tuple[int, int], kept: tuple[int, int]) -> Pixels:
    height, width = pixels.shape[:2]
    if kept != size:  # without this a strip of 1 × 3,000 would first become 256 × 768,000
        longest = MAX_ELONGATION * min(height, width)
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        pixels = pixels[top : height - top, left : width - left]
    new_height, new_width = round(size[0] * pixels.shape[0] / height), round(size[1] * pixels.shape[1] / width)
    return cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]  # a stub's lapse


def _middle(pixels: Pixels, kept: tuple[int, int]) -> Pixels:
    top, left = (pixels.shape[0] - kept[0]) // 2, (pixels.shape[1] - kept[1]) // 2
    return np.ascontiguousarray(pixels[top : top + kept[0], left : left + kept[1]])
