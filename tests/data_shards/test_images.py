"""Any image file to one square JPEG: which pixels are kept, and which files are refused."""

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from data_shards.images import BadImageError, decode_jpeg, to_square

Pixels = NDArray[np.uint8]


def smooth(height: int, width: int) -> Pixels:
    """Clouds of colour: an image that JPEG keeps well, different at each corner."""
    seed = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(seed, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def saved(image: Pixels | Image.Image, kind: str, **options: object) -> bytes:
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def encoded(square: NDArray[np.generic]) -> bytes:
    """Return what is stored of these pixels."""
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(square, dtype=np.uint8), 95, "RGB", "420")
    return jpeg


def area_weights(old: int, new: int) -> NDArray[np.float64]:
    """How much of each old pixel lies in each new one, (new, old)."""
    edges = np.arange(new + 1) * old / new
    left = np.maximum(edges[:-1, None], np.arange(old))
    right = np.minimum(edges[1:, None], np.arange(1, old + 1))
    return np.maximum(right - left, 0) * new / old


JPEG = saved(smooth(80, 120), "JPEG", quality=90)
PNG = saved(smooth(80, 120), "PNG")
CMYK = Image.fromarray(smooth(80, 120)).convert("CMYK")
ORIENTATION = 0x0112
ON_ITS_SIDE = Image.Exif()
ON_ITS_SIDE[ORIENTATION] = 6


@pytest.mark.parametrize(("height", "width"), [(128, 192), (192, 128), (128, 128), (128, 130), (130, 128)])
def test_the_centre_square_is_kept_of_the_image_halved(height: int, width: int) -> None:
    pixels = smooth(height, width).astype(int)
    blocks = pixels.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3))
    halved = (blocks + 2) // 4
    top, left = (height // 2 - 64) // 2, (width // 2 - 64) // 2
    assert to_square(saved(pixels.astype(np.uint8), "PNG"), 64).jpeg == encoded(halved[top : top + 64, left : left + 64])


@pytest.mark.parametrize(("height", "width"), [(100, 150), (233, 177), (97, 301)])
def test_every_pixel_is_the_mean_of_the_area_that_it_covers(height: int, width: int) -> None:
    new_height, new_width = (64, round(width * 64 / height)) if height < width else (round(height * 64 / width), 64)
    down, across = area_weights(height, new_height), area_weights(width, new_width)
    scaled = np.einsum("yh,hwc,xw->yxc", down, smooth(height, width), across, optimize=True)
    top, left = (new_height - 64) // 2, (new_width - 64) // 2
    expected = np.rint(scaled[top : top + 64, left : left + 64])
    found = decode_jpeg(to_square(saved(smooth(height, width), "PNG"), 64).jpeg).astype(int)
    difference = np.abs(found - decode_jpeg(encoded(expected)))
    assert difference.max() <= 4  # a pixel that rounds the other way moves its block of JPEG a little
    assert difference.mean() < 0.1


@pytest.mark.parametrize("side", [64, 65, 80, 128, 255])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (80, 120), (121, 80), (63, 64), (255, 256)])
def test_the_square_has_exactly_the_side_asked_for(height: int, width: int, side: int) -> None:
    assert decode_jpeg(to_square(saved(smooth(height, width), "PNG"), side).jpeg).shape == (side, side, 3)


def test_an_image_of_the_right_size_is_neither_scaled_nor_shifted() -> None:
    pixels = simplejpeg.decode_jpeg(saved(smooth(64, 91), "JPEG"), "RGB")
    assert to_square(saved(smooth(64, 91), "JPEG"), 64).jpeg == encoded(pixels[:, 13:77])


def test_a_tiny_image_is_scaled_up_smoothly() -> None:
    ramp = np.repeat(np.arange(0, 256, 17, dtype=np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2)  # (16, 16, 3)
    row = decode_jpeg(to_square(saved(ramp, "PNG"), 128).jpeg)[64, :, 0].astype(int)
    assert row[0] < 10
    assert row[-1] > 245
    assert np.diff(row).min() >= -3
    assert np.diff(row).max() < 17, "nearest neighbour would jump by 17 at each old pixel"


def test_what_is_stored_is_a_baseline_jpeg_with_halved_chroma() -> None:
    jpeg = to_square(PNG, 64).jpeg
    assert simplejpeg.decode_jpeg_header(jpeg) == (64, 64, "YCbCr", "420")
    assert b"\xff\xc0" in jpeg
    assert b"\xff\xc2" not in jpeg


@pytest.mark.parametrize(
    ("data", "mended"),
    [
        (JPEG, None),
        (saved(smooth(80, 120), "JPEG", progressive=True), None),
        (saved(Image.fromarray(smooth(80, 120)).convert("L"), "JPEG"), "grey"),
        (saved(CMYK, "JPEG"), "JPEG CMYK"),
        (PNG, "PNG RGB"),
        (saved(Image.fromarray(smooth(80, 120)).convert("L"), "PNG"), "PNG L"),
        (saved(Image.fromarray(smooth(80, 120)).convert("RGBA"), "PNG"), "PNG RGBA"),
        (saved(Image.fromarray(smooth(80, 120)).quantize(), "PNG"), "PNG P"),
        (saved(smooth(80, 120), "BMP"), "BMP RGB"),
        (saved(smooth(80, 120), "WEBP", lossless=True), "WEBP RGB"),
    ],
    ids=["rgb", "progressive", "grey", "cmyk", "png", "grey png", "rgba png", "palette png", "bmp", "webp"],
)
def test_whatever_was_not_an_rgb_jpeg_is_mended_and_said(data: bytes, mended: str | None) -> None:
    square = to_square(data, 64)
    assert square.mended == mended
    colours = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).mean(axis=(0, 1))
    assert np.abs(decode_jpeg(square.jpeg).mean(axis=(0, 1)) - colours).max() < 12, "the colours are not those of the file"


def test_a_progressive_jpeg_gives_the_pixels_of_its_baseline_twin() -> None:
    progressive = saved(smooth(80, 120), "JPEG", quality=90, progressive=True)
    assert progressive != JPEG
    assert to_square(progressive, 64).jpeg == to_square(JPEG, 64).jpeg


def test_a_grey_image_has_equal_channels() -> None:
    pixels = decode_jpeg(to_square(saved(Image.fromarray(smooth(80, 120)).convert("L"), "JPEG"), 64).jpeg).astype(int)
    assert np.ptp(pixels, axis=2).max() <= 1
    assert np.ptp(pixels) > 50


def test_cmyk_pixels_are_those_that_pillow_makes_of_them() -> None:
    data = saved(CMYK, "JPEG", quality=95)
    as_rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert to_square(data, 80).jpeg == encoded(as_rgb[:, 20:100])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_orientation_that_exif_asks_for_is_ignored(kind: str) -> None:
    upright, turned = saved(smooth(80, 120), kind), saved(smooth(80, 120), kind, exif=ON_ITS_SIDE.tobytes())
    assert Image.open(io.BytesIO(turned)).getexif()[ORIENTATION] == 6
    assert to_square(turned, 64).jpeg == to_square(upright, 64).jpeg


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^the file is empty$"),
        (b"these are words, not colours", r"^not an image; it begins with b'these are words,'$"),
        (b"<html>404", r"^not an image; it begins with b'<html>404'$"),
        (JPEG[:3], "^not an image; it begins with"),
        (JPEG[: len(JPEG) // 2], "^the image is damaged .*truncated"),
        (JPEG[:-2], "^the image is damaged .*truncated"),
        (JPEG[: len(JPEG) // 2] + JPEG[-2:], "^the JPEG is damaged .*premature end"),
        (JPEG[:400] + JPEG[-2:], "^the JPEG is damaged"),
        (PNG[: len(PNG) // 2], "^the image is damaged .*truncated"),
        (PNG[:30], "^not an image; it begins with"),
        (PNG[:60] + b"\0\0\0\0" + PNG[64:], "^the image is damaged"),
    ],
    ids=[
        "empty",
        "text",
        "html",
        "three bytes",
        "half a jpeg",
        "no end",
        "body cut out",
        "no scan",
        "half a png",
        "png header",
        "png flipped",
    ],
)
def test_what_cannot_be_decoded_whole_is_refused_with_its_reason(data: bytes, message: str) -> None:
    with pytest.raises(BadImageError, match=message):
        to_square(data, 64)


@pytest.mark.parametrize("start", [JPEG, PNG, saved(CMYK, "JPEG")], ids=["jpeg", "png", "cmyk"])
def test_no_cut_of_a_file_passes_for_the_whole(start: bytes) -> None:
    lengths = range(0, len(start) - 12, len(start) // 50)  # a PNG's last 12 bytes say only that it ends
    assert len(lengths) >= 50
    for length in lengths:
        with pytest.raises(BadImageError):
            to_square(start[:length], 64)
