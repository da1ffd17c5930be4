"""One image file in, one RGB JPEG out, its pixels looked at on the way.

Called by `data_shards.writing` for every sample, so that nothing undecodable ever reaches a loader.
"""

import gzip
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from data_shards.scaling import resize_middle

QUALITY = 95
"""[CCN2 make-data] The author's own later tool stores 256 × 256 JPEGs of this quality."""

STORAGE_PATTERN = r"^(original|(square|shorter)(6[4-9]|[7-9]\d|[1-9]\d\d|[1-3]\d{3}|40[0-8]\d|409[0-6]))$"
"""(ours) Sides of 64 to 4096 pixels."""

MAX_PIXELS = 178_956_970
"""(ours) Half a gigabyte of RGB, where Pillow too speaks of a decompression bomb."""

MAX_SIDE = 65_500
"""(ours) The longest side that libjpeg writes."""

FORMATS = ("PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
"""(ours) What goes by a JPEG's name on the web. None whose decoder starts another program, as that of EPS does."""

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""[ITU T.81 table B.1] The markers of a JPEG's segments; those of frames hold its size."""
EXIF = 0xE1
SCAN = 0xDA
MARKER = re.compile(rb"\xff+([\x01-\xfe])")
END_OF_IMAGE = b"\xff\xd9"

TURNED = re.compile(
    rb"\x12\x01[\x03\x04]\x00\x01\x00\x00\x00[\x02-\x08]\x00|\x01\x12\x00[\x03\x04]\x00\x00\x00\x01\x00(\x00\x00)?[\x02-\x08]"
)
"""[EXIF 2.3 §4.6.4] An orientation other than upright, in either order of bytes. Only then is the slow reader asked."""

STRAY_BYTES = re.compile(r"(\d+) extraneous bytes before marker 0x(\w\w)")
"""[libjpeg JWRN_EXTRANEOUS_DATA]"""


class BadImageError(ValueError):
    """The bytes are not an image that can be decoded whole."""


class Storage(NamedTuple):
    """What is kept of an image."""

    shape: Literal["square", "shorter", "original"]
    side: int | None
    """Of the square, or the shorter one of the image, in pixels; None for `original`."""


class StoredImage(NamedTuple):
    """A stored image, and what its source was like."""

    jpeg: bytes
    height: int
    """Of what is stored, in pixels."""
    width: int
    mended: str | None
    """What the source was where it was not an RGB JPEG: `grey`, `JPEG CMYK`, `PNG I;16`, `gzip`, `gzip, PNG RGB`."""
    orientation: int | None
    """The EXIF orientation, 2…8, that was ignored; None where the image is upright or does not say."""


class _Decoded(NamedTuple):
    pixels: NDArray[np.uint8]  # (H, W, 3)
    kind: str | None  # what the file is, where it is no RGB JPEG
    orientation: int | None


class _Header(NamedTuple):
    """What a JPEG says of itself before its pixels."""

    height: int
    width: int
    channels: int
    orientation: int | None
    pixels_at: int


def parse_storage(text: str) -> Storage:
    """Return what `square256`, `shorter256` or `original` means.

    Raises:
        ValueError: it is none of these.
    """
    if not re.fullmatch(STORAGE_PATTERN, text):
        raise ValueError(f"no storage {text!r}; expected original, or square or shorter with a side of 64 to 4096: square256")
    shape = cast(Literal["square", "shorter", "original"], text.rstrip("0123456789"))
    return Storage(shape, None if shape == "original" else int(text.removeprefix(shape)))


def store(data: bytes, storage: Storage, check: bool = True) -> StoredImage:
    """Return the JPEG to keep of an image file. EXIF orientation is ignored, as in 2012. [K12 §2]

    `square`: the image scaled until its shorter side fits, and of that the centre. `shorter`: all of the scaled image. Area
    interpolation down, cubic up; quality 95, 4:2:0. `original`: an RGB JPEG's own bytes; anything else as an RGB JPEG of its
    own size. Without `check` those bytes are not decoded, only their header read and the mark of their end looked for.

    Raises:
        BadImageError: empty, truncated, damaged, too large or not an image.
    """
    data, wrapping = _unwrap(data)
    header = _read_header(data) if data.startswith(b"\xff\xd8\xff") else None
    if header and header.channels == 3 and storage.side is None:
        _decode(data, header) if check else _find_end(data, header)
        return StoredImage(data, header.height, header.width, wrapping, header.orientation)
    image = _decode(data, header) if header else _decode_other(data)
    kept = _kept(image.pixels, storage)
    jpeg: bytes = simplejpeg.encode_jpeg(kept, QUALITY, "RGB", "420")
    mended = ", ".join(filter(None, (wrapping, image.kind))) or None
    return StoredImage(jpeg, kept.shape[0], kept.shape[1], mended, image.orientation)


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels (H, W, 3) of a JPEG that `store` kept.

    Raises:
        BadImageError: it has been damaged since.
    """
    return _decode_strictly(data, "RGB")


def _unwrap(data: bytes) -> tuple[bytes, str | None]:
    """The bytes of the image, and `gzip` where they were packed."""
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


def _read_header(data: bytes) -> _Header:
    frame, orientation, end = b"", None, 0
    for marker, start, end in _segments(data):
        if marker in FRAMES:
            frame = data[start : start + 6]
        elif marker == EXIF and TURNED.search(data, start, end):
            orientation = orientation or _exif_orientation(data[start:end])
    if len(frame) < 6:
        raise BadImageError("the JPEG does not say its size")
    bits, height, width, channels = struct.unpack(">BHHB", frame)
    if bits != 8 or channels not in (1, 3, 4):
        raise BadImageError(f"a JPEG of {channels} channels of {bits} bits; expected 1, 3 or 4 of 8")
    _check_size(height, width)
    return _Header(height, width, channels, orientation, end)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Of each segment before a JPEG's pixels, its marker and where its content begins and ends. [ITU T.81 §B.1]"""
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


def _find_end(data: bytes, header: _Header) -> None:
    if not data.endswith(END_OF_IMAGE) and data.find(END_OF_IMAGE, header.pixels_at) < 0:
        raise BadImageError("the JPEG is cut short")


def _decode(data: bytes, header: _Header) -> _Decoded:
    """The pixels of a JPEG. Where it has four channels they are inverted inks, as Adobe writes them and Pillow reads them."""
    if header.channels < 4:
        return _Decoded(_decode_strictly(data, "RGB"), "grey" if header.channels == 1 else None, header.orientation)
    inks = _decode_strictly(data, "CMYK")
    pixels = cv2.multiply(inks[..., :3], cv2.cvtColor(inks[..., 3], cv2.COLOR_GRAY2RGB), scale=1 / 255)
    return _Decoded(cast(NDArray[np.uint8], pixels), "JPEG CMYK", header.orientation)


def _decode_strictly(data: bytes, colours: str) -> NDArray[np.uint8]:
    """The pixels of a JPEG in which libjpeg finds nothing wrong, but for bytes that belong to no part of it."""
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
    """The JPEG without what lies between the segments of its header or, where that is clean, the last bytes before its end.

    libjpeg tells only of the last thing that it found wrong: what is left must be decoded again to see what there is besides.
    """
    spans = [(start - 4, end) for _, start, end in _segments(data)]
    header, pixels_at = data[:2] + b"".join(data[start:end] for start, end in spans), spans[-1][1]
    if len(header) < pixels_at:
        return header + data[pixels_at:]
    end = max(pixels_at, data.find(END_OF_IMAGE, pixels_at))
    return data[: max(pixels_at, end - number)] + data[end:]


def _decode_other(data: bytes) -> _Decoded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is mended or refused here
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image.height, image.width)
                return _Decoded(_to_rgb(image), f"{image.format} {image.mode}", _orientation(image.getexif()))
        except UnidentifiedImageError as error:
            raise BadImageError(f"not an image; it begins with {data[:16]!r}") from error
        except Image.DecompressionBombError as error:
            raise BadImageError(f"an image of more than {MAX_PIXELS:,} pixels") from error
        except BadImageError:
            raise
        except Exception as error:  # whatever a decoder trips over is the file's fault
            raise BadImageError(f"the image is damaged ({error})") from error


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels in 8 bits; 16 are divided by 257, so that white stays white. Transparency is dropped."""
    if not image.mode.startswith(("I", "F")):
        return np.array(image.convert("RGB"))
    deep = np.asarray(image)
    if image.mode == "F" or deep.min() < 0 or deep.max() > 65535:
        raise BadImageError(f"pixels of mode {image.mode} from {deep.min():g} to {deep.max():g}; expected at most 16 bits")
    grey = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _exif_orientation(segment: bytes) -> int | None:
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd entries
        try:
            exif.load(segment)
            return _orientation(exif)
        except Exception:  # what cannot be read asks for no turn
            return None


def _orientation(exif: Image.Exif) -> int | None:
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    return int(orientation) if orientation in range(2, 9) else None


def _check_size(height: int, width: int) -> None:
    if height == 0 or width == 0:
        raise BadImageError(f"an image of {width:,} × {height:,} pixels")
    if height * width > MAX_PIXELS:
        raise BadImageError(f"an image of {width:,} × {height:,} pixels; expected at most {MAX_PIXELS:,}")


def _kept(pixels: NDArray[np.uint8], storage: Storage) -> NDArray[np.uint8]:
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
