"""Any image file to one JPEG: which pixels are kept, which files are converted, and which are refused."""

import gzip
import io
import struct
import tarfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from data_shards.decoding import BadImageError, decode_jpeg
from data_shards.images import store
from data_shards.storage import Storage, parse_storage

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "imagenet-samples-500.tar"

Pixels = NDArray[np.uint8]
ORIGINAL = Storage("original", None)
SQUARE = Storage("square", 64)
SHORTER = Storage("shorter", 64)


def square(data: bytes, side: int = 64) -> bytes:
    return store(data, Storage("square", side)).jpeg


def smooth(height: int, width: int) -> Pixels:
    """Clouds of colour: an image that JPEG keeps well, different at each corner."""
    seed = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(seed, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def saved(image: Pixels | NDArray[np.uint16] | Image.Image, kind: str, **options: object) -> bytes:
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def by_opencv(suffix: str, pixels: NDArray[np.generic]) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def encoded(pixels: NDArray[np.generic]) -> bytes:
    """Return what is stored of these pixels."""
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels, dtype=np.uint8), 95, "RGB", "420")
    return jpeg


def with_size(data: bytes, height: int, width: int) -> bytes:
    """Return a JPEG or PNG with this size in its header."""
    if data.startswith(b"\xff\xd8"):
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]
    chunk = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


def with_exif(exif: bytes, data: bytes) -> bytes:
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def area_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the share of each old pixel in each new one, (new, old)."""
    edges = np.arange(new + 1) * old / new
    left = np.maximum(edges[:-1, None], np.arange(old))
    right = np.minimum(edges[1:, None], np.arange(1, old + 1))
    return np.maximum(right - left, 0) * new / old


CLOUDS = Image.fromarray(smooth(80, 120))
JPEG = saved(CLOUDS, "JPEG", quality=90)
PNG = saved(CLOUDS, "PNG")
GREY = saved(CLOUDS.convert("L"), "JPEG")
CMYK = saved(CLOUDS.convert("CMYK"), "JPEG", quality=95)
YCCK = simplejpeg.encode_jpeg(255 - np.asarray(CLOUDS.convert("CMYK")), 95, "CMYK", "444")
TABLES = JPEG.index(b"\xff\xdb")
STRAY = b"\x01\x02\x03"
RAMP = np.linspace(0, 65535, 80 * 120).reshape(80, 120).astype(np.uint16)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize(("height", "width"), [(128, 192), (192, 128), (128, 128), (128, 130), (130, 128)])
def test_the_centre_square_is_kept_of_the_image_halved(height: int, width: int) -> None:
    pixels = smooth(height, width).astype(int)
    blocks = pixels.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3))
    halved = (blocks + 2) // 4
    top, left = (height // 2 - 64) // 2, (width // 2 - 64) // 2
    data = saved(pixels.astype(np.uint8), "PNG")
    assert square(data) == encoded(halved[top : top + 64, left : left + 64])
    assert store(data, SHORTER).jpeg == encoded(halved)


@pytest.mark.parametrize(("height", "width"), [(100, 150), (233, 177), (97, 301)])
def test_every_pixel_is_the_mean_of_the_area_that_it_covers(height: int, width: int) -> None:
    new_height, new_width = (64, round(width * 64 / height)) if height < width else (round(height * 64 / width), 64)
    down, across = area_weights(height, new_height), area_weights(width, new_width)
    scaled = np.einsum("yh,hwc,xw->yxc", down, smooth(height, width), across, optimize=True)
    top, left = (new_height - 64) // 2, (new_width - 64) // 2
    expected = np.rint(scaled[top : top + 64, left : left + 64])
    found = decode_jpeg(square(saved(smooth(height, width), "PNG"))).astype(int)
    difference = np.abs(found - decode_jpeg(encoded(expected)))
    assert difference.max() <= 4  # a pixel that rounds the other way moves its block of JPEG a little
    assert difference.mean() < 0.1


@pytest.mark.parametrize("side", [64, 65, 80, 128, 255])
@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (2, 3), (80, 120), (121, 80), (63, 64), (255, 256), (1, 3000), (65500, 1)]
)
def test_the_square_has_exactly_the_side_asked_for(height: int, width: int, side: int) -> None:
    found = store(saved(smooth(height, width), "PNG"), Storage("square", side))
    assert decode_jpeg(found.jpeg).shape == (found.height, found.width, 3) == (side, side, 3)


@pytest.mark.parametrize(
    ("height", "width", "stored"),
    [
        (80, 120, (64, 96)),
        (120, 80, (96, 64)),
        (121, 80, (97, 64)),
        (64, 91, (64, 91)),
        (40, 60, (64, 96)),
        (1, 1000, (64, 64000)),
    ],
)
def test_the_shorter_side_is_the_one_asked_for_and_all_of_the_image_is_kept(
    height: int, width: int, stored: tuple[int, int]
) -> None:
    pixels = smooth(height, width)
    found = store(saved(pixels, "PNG"), SHORTER)
    assert decode_jpeg(found.jpeg).shape[:2] == (found.height, found.width) == stored
    corners = np.ix_([0, -1], [0, -1])
    assert np.abs(decode_jpeg(found.jpeg)[corners].astype(int) - pixels[corners]).max() < 20


@pytest.mark.parametrize(("height", "width"), [(1024, 64), (64, 1000), (63, 1008)])
def test_no_ordinary_image_loses_pixels_before_it_is_scaled(height: int, width: int) -> None:
    pixels = smooth(height, width)
    whole = decode_jpeg(store(saved(pixels, "PNG"), SHORTER).jpeg).astype(int)
    top, left = (whole.shape[0] - 64) // 2, (whole.shape[1] - 64) // 2
    found = decode_jpeg(square(saved(pixels, "PNG")))
    assert np.abs(found - whole[top : top + 64, left : left + 64]).max() <= 16  # both have been through JPEG, in other blocks


def test_the_square_of_a_strip_shows_its_middle() -> None:
    strip = np.zeros((2, 3001, 3), np.uint8)
    strip[:, 1499:1502] = 255
    found = decode_jpeg(square(saved(strip, "PNG")))
    assert found[:, 20:44].min() > 200, "the two columns of the middle are white"
    assert square(saved(strip, "PNG")) == square(saved(strip[:, 1400:1601], "PNG"))


def test_an_image_of_the_right_size_is_neither_scaled_nor_shifted() -> None:
    pixels = simplejpeg.decode_jpeg(saved(smooth(64, 91), "JPEG"), "RGB")
    assert square(saved(smooth(64, 91), "JPEG")) == encoded(pixels[:, 13:77])


def test_a_tiny_image_is_scaled_up_smoothly() -> None:
    ramp = np.repeat(np.arange(0, 256, 17, dtype=np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2)  # (16, 16, 3)
    row = decode_jpeg(square(saved(ramp, "PNG"), 128))[64, :, 0].astype(int)
    assert row[0] < 10
    assert row[-1] > 245
    assert np.diff(row).min() >= -3
    assert np.diff(row).max() < 17, "nearest neighbour would jump by 17 at each old pixel"


@pytest.mark.parametrize("storage", [SQUARE, SHORTER, ORIGINAL])
def test_what_is_stored_is_a_baseline_jpeg_with_halved_chroma(storage: Storage) -> None:
    found = store(PNG, storage)
    assert simplejpeg.decode_jpeg_header(found.jpeg) == (found.height, found.width, "YCbCr", "420")
    assert b"\xff\xc0" in found.jpeg
    assert b"\xff\xc2" not in found.jpeg


RGB_JPEGS = {
    "plain": JPEG,
    "progressive": saved(CLOUDS, "JPEG", progressive=True),
    "4:4:4": saved(CLOUDS, "JPEG", subsampling=0),
    "red, green and blue stored as such": saved(CLOUDS, "JPEG", keep_rgb=True),
    "restart markers": saved(CLOUDS, "JPEG", restart_marker_blocks=2),
    "zeros after its end": JPEG + bytes(100),
    "words after its end": JPEG + b"words",
    "another JPEG after its end": JPEG + GREY,
    "stray bytes in its header": JPEG[:TABLES] + STRAY + JPEG[TABLES:],
    "filled up between segments": JPEG[:TABLES] + b"\xff\xff" + JPEG[TABLES:],
    "stray bytes before its end": JPEG[:-2] + STRAY + JPEG[-2:],
    "many of them": JPEG[:-2] + b"\xff\x00" * 40 + JPEG[-2:] + STRAY,
    "stray bytes in both places": JPEG[:TABLES] + STRAY + JPEG[TABLES:-2] + STRAY * 9 + JPEG[-2:] + GREY,
}


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("data", RGB_JPEGS.values(), ids=RGB_JPEGS)
def test_an_rgb_jpeg_is_kept_to_the_byte_and_not_called_converted(data: bytes, check: bool) -> None:
    assert store(data, ORIGINAL, check) == (data, 80, 120, None, None)


@pytest.mark.parametrize("data", RGB_JPEGS.values(), ids=RGB_JPEGS)
def test_an_rgb_jpeg_is_scaled_with_anything_between_its_parts(data: bytes) -> None:
    found = store(data, SQUARE)
    assert (found.height, found.width, found.mended) == (64, 64, None)
    assert np.abs(decode_jpeg(found.jpeg).astype(int) - decode_jpeg(square(PNG))).mean() < 3


WITHOUT_COLOUR, BILEVEL, PALETTE = CLOUDS.convert("L"), CLOUDS.convert("1"), CLOUDS.quantize()
CONVERTED = {
    "grey": (GREY, "grey", WITHOUT_COLOUR),
    "progressive grey": (saved(WITHOUT_COLOUR, "JPEG", progressive=True), "grey", WITHOUT_COLOUR),
    "cmyk": (CMYK, "JPEG CMYK", CLOUDS),
    "ycck": (YCCK, "JPEG CMYK", CLOUDS),
    "png": (PNG, "PNG RGB", CLOUDS),
    "grey png": (saved(WITHOUT_COLOUR, "PNG"), "PNG L", WITHOUT_COLOUR),
    "bilevel png": (saved(BILEVEL, "PNG"), "PNG 1", BILEVEL),
    "rgba png": (saved(CLOUDS.convert("RGBA"), "PNG"), "PNG RGBA", CLOUDS),
    "grey png with alpha": (saved(CLOUDS.convert("LA"), "PNG"), "PNG LA", WITHOUT_COLOUR),
    "palette png": (saved(PALETTE, "PNG"), "PNG P", PALETTE),
    "transparent palette": (saved(PALETTE, "PNG", transparency=bytes(range(256))), "PNG P", PALETTE),
    "16-bit rgb png": (by_opencv(".png", np.asarray(CLOUDS)[..., ::-1].astype(np.uint16) * 257), "PNG RGB", CLOUDS),
    "gif": (saved(PALETTE, "GIF"), "GIF P", PALETTE),
    "bmp": (saved(CLOUDS, "BMP"), "BMP RGB", CLOUDS),
    "webp": (saved(CLOUDS, "WEBP", lossless=True), "WEBP RGB", CLOUDS),
    "tiff": (saved(CLOUDS, "TIFF"), "TIFF RGB", CLOUDS),
    "cmyk tiff": (saved(CLOUDS.convert("CMYK"), "TIFF"), "TIFF CMYK", CLOUDS),
    "gzip": (gzip.compress(JPEG), "gzip", CLOUDS),
    "gzip around grey": (gzip.compress(GREY), "gzip, grey", WITHOUT_COLOUR),
    "gzip around png": (gzip.compress(PNG), "gzip, PNG RGB", CLOUDS),
}


@pytest.mark.parametrize("storage", [SQUARE, SHORTER, ORIGINAL], ids=lambda storage: storage.shape)
@pytest.mark.parametrize(("data", "mended", "shown"), CONVERTED.values(), ids=CONVERTED)
def test_a_file_that_is_not_an_rgb_jpeg_is_converted_and_named(
    data: bytes, mended: str, shown: Image.Image, storage: Storage, capfd: pytest.CaptureFixture[str]
) -> None:
    found = store(data, storage, check=False)
    assert found.mended == mended
    assert simplejpeg.decode_jpeg_header(found.jpeg)[:3] == (found.height, found.width, "YCbCr")
    wanted = decode_jpeg(store(saved(shown.convert("RGB"), "PNG"), storage).jpeg).astype(int)
    assert np.abs(decode_jpeg(found.jpeg) - wanted).mean() < 3, "the colours are not those of the file"
    assert capfd.readouterr() == ("", "")


def test_a_converted_original_has_its_own_size_and_the_best_quality_that_is_stored() -> None:
    assert store(PNG, ORIGINAL).jpeg == encoded(np.asarray(CLOUDS))
    assert store(gzip.compress(PNG), ORIGINAL).jpeg == encoded(np.asarray(CLOUDS))


def test_an_rgb_jpeg_out_of_gzip_is_kept_to_the_byte() -> None:
    assert store(gzip.compress(JPEG), ORIGINAL) == (JPEG, 80, 120, "gzip", None)


@pytest.mark.parametrize(
    ("data", "mended"),
    [
        (saved(RAMP, "PNG"), "PNG I;16"),
        (saved(RAMP, "TIFF"), "TIFF I;16"),
        (by_opencv(".pgm", RAMP), "PPM I"),
        (saved(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "TIFF I"),
        (by_opencv(".png", np.dstack([RAMP] * 3)), "PNG RGB"),
    ],
    ids=["png", "tiff", "pgm", "32-bit tiff that holds 16", "rgb png"],
)
def test_sixteen_bits_become_the_eight_that_are_as_bright(data: bytes, mended: str) -> None:
    found = store(data, ORIGINAL)
    assert found.mended == mended
    assert np.abs(decode_jpeg(found.jpeg)[..., 0] - RAMP / 257).max() < 4, "black stays black, white white"


@pytest.mark.parametrize(("data", "tolerance"), [(CMYK, 2), (YCCK, 2)], ids=["cmyk", "ycck"])
def test_inks_are_read_inverted_as_pillow_reads_them(data: bytes, tolerance: int) -> None:
    inks = simplejpeg.decode_jpeg(data, "CMYK").astype(float)
    assert store(data, ORIGINAL).jpeg == encoded(np.rint(inks[..., :3] * inks[..., 3:] / 255))
    by_pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode_jpeg(store(data, ORIGINAL).jpeg) - by_pillow).mean() < tolerance
    assert np.abs(by_pillow - np.asarray(CLOUDS)).mean() < tolerance


def test_a_progressive_jpeg_gives_the_pixels_of_its_baseline_twin() -> None:
    progressive = saved(CLOUDS, "JPEG", quality=90, progressive=True)
    assert progressive != JPEG
    assert square(progressive) == square(JPEG)


def test_a_grey_image_has_equal_channels() -> None:
    pixels = decode_jpeg(square(GREY)).astype(int)
    assert np.ptp(pixels, axis=2).max() <= 1
    assert np.ptp(pixels) > 50


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_in_exif_is_ignored_and_reported(kind: str, orientation: int) -> None:
    upright, on_its_side = saved(CLOUDS, kind), saved(CLOUDS, kind, exif=turned(orientation))
    assert Image.open(io.BytesIO(on_its_side)).getexif()[0x0112] == orientation
    found = store(on_its_side, SQUARE)
    assert found.jpeg == square(upright)
    assert found.orientation == (orientation if 2 <= orientation <= 8 else None)


@pytest.mark.parametrize("storage", [SQUARE, ORIGINAL])
@pytest.mark.parametrize(
    ("data", "orientation"),
    [
        (with_exif(turned(6)[:20], JPEG), None),
        (with_exif(b"Exif\0\0", JPEG), None),
        (with_exif(b"Exif\0\0nothing that is known", JPEG), None),
        (with_exif(turned(6).replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02"), JPEG), None),
        (with_exif(b"http://ns.adobe.com/xap/1.0/\0<x/>", with_exif(turned(3), JPEG)), 3),
        (saved(CLOUDS.convert("CMYK"), "JPEG", exif=turned(8)), 8),
        (saved(CLOUDS.convert("L"), "JPEG", exif=turned(8)), 8),
        (gzip.compress(with_exif(turned(7), JPEG)), 7),
    ],
    ids=["cut short", "empty", "garbage", "text", "after xmp", "cmyk", "grey", "gzip"],
)
def test_the_orientation_is_reported_if_exif_can_be_read(
    data: bytes, orientation: int | None, storage: Storage, capfd: pytest.CaptureFixture[str]
) -> None:
    assert store(data, storage).orientation == orientation
    assert capfd.readouterr() == ("", "")


BAD = {
    "empty": (b"", "^the file is empty$"),
    "text": (b"these are words, not colours", r"^not an image; it begins with b'these are words,'$"),
    "html": (b"<html>404", r"^not an image; it begins with b'<html>404'$"),
    "postscript": (saved(CLOUDS, "EPS"), r"^not an image; it begins with b'%!PS-Adobe"),
    "three bytes": (JPEG[:3], "^the JPEG is cut short before its pixels$"),
    "header only": (JPEG[:400], "^the JPEG is cut short before its pixels$"),
    "half a jpeg": (JPEG[: len(JPEG) // 2], "^the JPEG is cut short$"),
    "no end": (JPEG[:-2], "^the JPEG is cut short$"),
    "half of it, and a thumbnail in its header": (with_exif(b"Exif\0\0" + JPEG, JPEG)[:-900], "^the JPEG is cut short$"),
    "no frame": (JPEG.replace(b"\xff\xc0", b"\xff\xef"), "^the JPEG has no frame header$"),
    "no rows": (with_size(JPEG, 0, 120), "^an image of 120 × 0 pixels$"),
    "jpeg bomb": (with_size(JPEG, 65500, 65500), "^an image of 65,500 × 65,500 pixels; expected at most 178,956,970$"),
    "12 bits": (JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), "^a JPEG of 3 channels of 12 bits; expected"),
    "grey, half": (GREY[: len(GREY) // 2], "^the JPEG is cut short$"),
    "cmyk, half": (CMYK[: len(CMYK) // 2], "^the JPEG is cut short$"),
    "cmyk, body cut out": (CMYK[: len(CMYK) // 2] + CMYK[-2:], "^the JPEG is damaged .*premature end"),
    "png bomb": (with_size(PNG, 65500, 65500), "^an image of more than 178,956,970 pixels$"),
    "half a png": (PNG[: len(PNG) // 2], "^the image is damaged .*truncated"),
    "png header": (PNG[:30], "^not an image; it begins with"),
    "png flipped": (PNG[:60] + b"\0\0\0\0" + PNG[64:], "^the image is damaged"),
    "half a gif": (saved(CLOUDS, "GIF")[:900], "^the image is damaged"),
    "half a tiff": (saved(CLOUDS, "TIFF")[:900], "^not an image; it begins with|^the image is damaged"),
    "half a webp": (saved(CLOUDS, "WEBP")[:300], "^not an image; it begins with|^the image is damaged"),
    "real numbers": (saved(CLOUDS.convert("F"), "TIFF"), "^pixels of mode F from .* to .*; expected at most 16 bits$"),
    "32 bits": (saved(Image.fromarray(RAMP.astype(np.int32) * 2), "TIFF"), "^pixels of mode I from 0 to 131070; expected"),
    "gzip, half": (gzip.compress(JPEG)[:900], "^the gzip file is damaged .*ended before"),
    "gzip, flipped": (gzip.compress(JPEG)[:-8] + bytes(8), "^the gzip file is damaged .*CRC"),
    "gzip header": (gzip.compress(JPEG)[:2], "^the gzip file is damaged"),
    "gzip around nothing": (gzip.compress(b""), "^not an image; it begins with b''$"),
    "gzip around half a jpeg": (gzip.compress(JPEG[:900]), "^the JPEG is cut short$"),
    "gzip around gzip": (gzip.compress(gzip.compress(JPEG)), "^not an image; it begins with"),
}

DAMAGED = {
    "body cut out": JPEG[: len(JPEG) // 2] + JPEG[-2:],
    "body cut out, stray bytes in its header": JPEG[:TABLES] + STRAY + JPEG[TABLES : len(JPEG) // 2] + JPEG[-2:],
    "body overwritten": JPEG[: -len(JPEG) // 3] + b"\x55" * 300 + JPEG[300 - len(JPEG) // 3 :],
}


@pytest.mark.parametrize("storage", [SQUARE, SHORTER, ORIGINAL], ids=lambda storage: storage.shape)
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_decoded_completely_is_refused_with_its_reason(
    data: bytes, message: str, storage: Storage, check: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadImageError, match=message):
        store(data, storage, check)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_jpeg_damaged_inside_is_refused_unless_it_is_kept_unchecked(data: bytes) -> None:
    for storage in (SQUARE, SHORTER, ORIGINAL):
        with pytest.raises(BadImageError, match="^the JPEG is damaged"):
            store(data, storage)
    assert store(data, ORIGINAL, check=False).jpeg == data


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(BadImageError, match="^the gzip file holds more than 178,956,970 bytes$"):
        store(gzip.compress(bytes(180_000_000), 1), SQUARE)


@pytest.mark.parametrize(
    ("height", "width", "stored"), [(1, 3000, "192,000 × 64"), (3000, 1, "64 × 192,000"), (2, 65500, "2,096,000 × 64")]
)
def test_a_strip_too_long_for_a_jpeg_is_refused(height: int, width: int, stored: str) -> None:
    with pytest.raises(
        BadImageError, match=f"^{width:,} × {height:,} pixels would be stored as {stored}; expected at most 65,500 a side"
    ):
        store(saved(smooth(height, width), "PNG"), SHORTER)


@pytest.mark.parametrize("start", [JPEG, PNG, CMYK, gzip.compress(JPEG)], ids=["jpeg", "png", "cmyk", "gzip"])
def test_no_cut_of_a_file_passes_for_the_whole(start: bytes) -> None:
    lengths = range(0, len(start) - 12, len(start) // 50)  # a PNG's last 12 bytes mark only its end
    assert len(lengths) >= 50
    for length in lengths:
        for storage in (SQUARE, ORIGINAL):
            with pytest.raises(BadImageError):
                store(start[:length], storage, check=False)


@pytest.mark.parametrize("start", [data for data, _, _ in CONVERTED.values()] + [JPEG], ids=[*CONVERTED, "rgb"])
def test_damage_never_raises_anything_but_a_bad_image_error(start: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        data = np.frombuffer(start, np.uint8).copy()
        data[random.integers(0, min(len(data), 700), 3)] = random.integers(0, 256, 3)
        try:
            store(data.tobytes(), SQUARE)
        except BadImageError:
            refused += 1
    assert refused, "nothing was damaged"
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def photographs() -> dict[str, bytes]:
    if not PHOTOGRAPHS.exists():
        pytest.skip(f"the 500 photographs are not there: {PHOTOGRAPHS}")
    with tarfile.open(PHOTOGRAPHS) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["square256", "shorter256", "original"])
def test_real_photographs_pass(text: str, photographs: dict[str, bytes]) -> None:
    storage = parse_storage(text)
    grey = 0
    for data in photographs.values():
        found = store(data, storage)
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        assert (found.mended, found.orientation) == ("grey" if colours == "Gray" else None, None)
        assert simplejpeg.decode_jpeg_header(found.jpeg)[:3] == (found.height, found.width, "YCbCr")
        if storage.side is None:
            assert (found.height, found.width) == (height, width)
            assert colours == "Gray" or found.jpeg == data
            assert colours == "Gray" or store(data, storage, check=False) == found
        else:
            assert min(found.height, found.width) == 256
            kept = (1, 1) if storage.shape == "square" else (height, width)
            assert abs(found.height * kept[1] - found.width * kept[0]) <= max(kept) / 2
        grey += colours == "Gray"
    assert len(photographs) == 500
    assert grey == 9
