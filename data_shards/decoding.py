"""The bytes of an image file to pixels: which files are accepted, and what is wrong with the others.

Called by `data_shards.images` for every source, and by whatever reads stored images again without DALI.
"""

import gzip
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from base.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

# Pillow is imported where it is used: only by processes that meet a file that is not a plain JPEG.

MAX_PIXELS = 178_956_970
"""(ours) Half a gigabyte of RGB; Pillow too calls a larger image a decompression bomb."""

FORMATS = ("PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
"""(ours) Formats found on the web, often under a JPEG's name. None has a decoder that starts another program, as EPS does."""

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""[ISO/IEC 23008-12 §10] The first brands of what phones write."""

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""[ITU T.81 table B.1] Markers of a JPEG's frame segments, which hold its size."""
EXIF = 0xE1
SCAN = 0xDA
MARKER = re.compile(rb"\xff+([\x01-\xfe])")
END_OF_IMAGE = b"\xff\xd9"

ORIENTATION_TAG = 0x0112

TURNED = re.compile(
    rb"\x12\x01[\x03\x04]\x00\x01\x00\x00\x00[\x02-\x08]\x00|\x01\x12\x00[\x03\x04]\x00\x00\x00\x01\x00(\x00\x00)?[\x02-\x08]"
)
"""[EXIF 2.3 §4.6.4] An orientation other than upright, in either byte order. Only then does the slow reader run."""

STRAY_BYTES = re.compile(r"(\d+) extraneous bytes before marker 0x(\w\w)")
"""[libjpeg JWRN_EXTRANEOUS_DATA]"""


class BadImageError(InputError):
    """The bytes are not an image that can be decoded completely."""


class Decoded(NamedTuple):
    """Pixels, and what the file was."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB; the rotation in EXIF is ignored."""
    kind: str | None
    """`grey`, `JPEG CMYK`, `PNG I;16`; None for an RGB JPEG."""
    orientation: int | None
    """The EXIF orientation, 2 to 8; None for upright or unknown."""


class Header(NamedTuple):
    """The metadata of a JPEG before its pixels."""

    height: int
    width: int
    channels: int
    orientation: int | None
    pixels_at: int


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels (H, W, 3) of an RGB JPEG.

    Raises:
        BadImageError: it is damaged.
    """
    return _decode_strictly(data, "RGB")


def unwrap(data: bytes) -> tuple[bytes, str | None]:
    """Return the bytes of the image, and `gzip` if they were compressed.

    Raises:
        BadImageError: empty, damaged, or too large.
    """
    if not data:
        raise BadImageError("the file is empty")
    if not data.startswith(b"\x1f\x8b"):
        return data, None
    try:
        with gzip.open(io.BytesIO(data)) as file:
            inner = file.read(MAX_PIXELS + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadImageError(f"the gzip file is damaged ({error})") from error
    if len(inner) > MAX_PIXELS:
        raise BadImageError(f"the gzip file holds more than {MAX_PIXELS:,} bytes")
    return inner, "gzip"


def read_header(data: bytes) -> Header | None:
    """Return the header of a JPEG; None for any other file.

    Raises:
        BadImageError: cut short, too large, or a kind of JPEG that is not accepted.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    frame, orientation, end = b"", None, 0
    for marker, start, end in _segments(data):
        if marker in FRAMES:
            frame = data[start : start + 6]
        elif marker == EXIF and TURNED.search(data, start, end):
            orientation = orientation or _exif_orientation(data[start:end])
    if len(frame) < 6:
        raise BadImageError("the JPEG has no frame header")
    bits, height, width, channels = struct.unpack(">BHHB", frame)
    if bits != 8 or channels not in (1, 3, 4):
        raise BadImageError(f"a JPEG of {channels} channels of {bits} bits; expected 1, 3 or 4 of 8")
    _check_size(height, width)
    return Header(height, width, channels, orientation, end)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, start and end of each segment before a JPEG's pixels. [ITU T.81 §B.1]"""
    at = 2
    while found := MARKER.search(data, at):
        length_at = found.end()
        at = length_at + max(2, int.from_bytes(data[length_at : length_at + 2]))
        if at > len(data):
            break
        yield found[1][0], length_at + 2, at
        if found[1][0] == SCAN:
            return
    raise BadImageError("the JPEG is cut short before its pixels")


def check_end(data: bytes, header: Header) -> None:
    """Raise `BadImageError` for a JPEG without the mark of its end; do not decode it."""
    if not data.endswith(END_OF_IMAGE) and data.find(END_OF_IMAGE, header.pixels_at) < 0:
        raise BadImageError("the JPEG is cut short")


def decode(data: bytes, header: Header | None) -> Decoded:
    """Return the pixels of a JPEG with this header, or of another file.

    Four channels are read as inverted inks, as Adobe writes them and Pillow reads them.

    Raises:
        BadImageError: truncated, damaged, too large or not an image.
    """
    if header is None:
        return _decode_other(data)
    if header.channels < 4:
        return Decoded(_decode_strictly(data, "RGB"), "grey" if header.channels == 1 else None, header.orientation)
    inks = _decode_strictly(data, "CMYK").astype(np.uint16)
    pixels = (inks[..., :3] * inks[..., 3:] + 127) // 255
    return Decoded(pixels.astype(np.uint8), "JPEG CMYK", header.orientation)


def _decode_strictly(data: bytes, colours: str) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG. Stray bytes between its parts are removed; any other warning of libjpeg is an error."""
    for _ in range(8):
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colours)
            return pixels
        except ValueError as error:
            reason = str(error)
        stray = STRAY_BYTES.search(reason)
        if not stray:
            break
        data = _without_stray_bytes(data, int(stray[1]))
    raise BadImageError("the JPEG is cut short" if reason.startswith("Premature") else f"the JPEG is damaged ({reason})")


def _without_stray_bytes(data: bytes, number: int) -> bytes:
    """Return the JPEG without the bytes between its header's segments or, if there are none, those before its end.

    libjpeg reports only the last problem it found, so the result must be decoded again to find the others.
    """
    spans = [(start - 4, end) for _, start, end in _segments(data)]
    header, pixels_at = data[:2] + b"".join(data[start:end] for start, end in spans), spans[-1][1]
    if len(header) < pixels_at:
        return header + data[pixels_at:]
    end = max(pixels_at, data.find(END_OF_IMAGE, pixels_at))
    return data[: max(pixels_at, end - number)] + data[end:]


def _decode_other(data: bytes) -> Decoded:
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about files that are converted or refused here
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image.height, image.width)
                return Decoded(_to_rgb(image), f"{image.format} {image.mode}", _orientation(image.getexif()))
        except UnidentifiedImageError as error:
            raise BadImageError(_unknown(data)) from error
        except Image.DecompressionBombError as error:
            raise BadImageError(f"an image of more than {MAX_PIXELS:,} pixels") from error
        except BadImageError:
            raise
        except Exception as error:  # any exception of a decoder is the file's fault
            raise BadImageError(f"the image is damaged ({error})") from error


def _unknown(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS:
        return "a HEIC image, which Pillow does not read; convert it to JPEG"
    return f"not an image; it begins with {data[:16]!r}"


def _to_rgb(image: "Image.Image") -> NDArray[np.uint8]:
    """Return the pixels in 8 bits. 16 bits are divided by 257, so that white stays white. Transparency is dropped."""
    if not image.mode.startswith(("I", "F")):
        return np.array(image.convert("RGB"))
    deep = np.asarray(image)
    if image.mode == "F" or deep.min() < 0 or deep.max() > 65535:
        raise BadImageError(f"pixels of mode {image.mode} from {deep.min():g} to {deep.max():g}; expected at most 16 bits")
    grey = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _exif_orientation(segment: bytes) -> int | None:
    from PIL import Image

    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd entries
        try:
            exif.load(segment)
            return _orientation(exif)
        except Exception:  # an unreadable segment has no orientation
            return None


def _orientation(exif: "Image.Exif") -> int | None:
    orientation = exif.get(ORIENTATION_TAG, 1)
    return int(orientation) if orientation in range(2, 9) else None


def _check_size(height: int, width: int) -> None:
    if height == 0 or width == 0:
        raise BadImageError(f"an image of {width:,} × {height:,} pixels")
    if height * width > MAX_PIXELS:
        raise BadImageError(f"an image of {width:,} × {height:,} pixels; expected at most {MAX_PIXELS:,}")
