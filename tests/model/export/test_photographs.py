"""What the plain module does to a photograph, against what the shards and the loader do."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from data_shards.decoding import decode, read_header
from data_shards.images import _kept, store
from data_shards.storage import Storage
from model.export.alexnet import areas, read_photograph, square, ten_views
from tasks.code import ROOT

REAL = ROOT.parent / "shared" / "data" / "imagenet-samples-500.tar"


def levels(ours, copied):
    """Return by how many levels the pixels (3, S, S) differ, at most and on average."""
    difference = (ours.int() - copied.int()).abs()
    return difference.max().item(), difference.float().mean().item()


def read(data):
    """Return the pixels (3, H, W) of an image file as the shards decode it."""
    return torch.from_numpy(decode(data, read_header(data)).pixels).permute(2, 0, 1)


def scaled(data, side):
    """Return the square as the shards have it before it is compressed, and as the plain module has it."""
    pixels = read(data)
    return torch.from_numpy(_kept(pixels.permute(1, 2, 0).numpy(), Storage("square", side))).permute(2, 0, 1), square(
        pixels, side
    )


@pytest.mark.skipif(not REAL.exists(), reason="needs imagenet-samples-500.tar beside the checkout")
def test_photographs_are_scaled_as_in_the_shards_and_compressed_much_alike(tmp_path):
    with tarfile.open(REAL) as tar:
        photographs = [tar.extractfile(member).read() for member in [member for member in tar if member.isfile()][:500:50]]
    assert len(photographs) == 10
    for data in photographs:
        ours, copied = scaled(data, 256)
        largest, mean = levels(ours, copied)
        assert (largest <= 1, mean < 0.001) == (True, True), (largest, mean)
        (tmp_path / "photograph.jpg").write_bytes(data)
        stored, again = read(store(data, Storage("square", 256)).jpeg), read_photograph(str(tmp_path / "photograph.jpg"), 256)
        assert levels(stored, again)[1] < levels(stored, ours)[1] < 5  # another encoder, and none at all


@pytest.mark.parametrize("size", [(64, 64), (50, 301), (72, 72), (300, 72), (640, 73), (5, 3)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "P"])
def test_every_shape_and_kind_of_image_becomes_the_same_square(size, mode, tmp_path):
    smooth = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0]).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(smooth).convert(mode).save(data, "JPEG" if mode in ("RGB", "L", "CMYK") else "PNG")
    largest, mean = levels(*scaled(data.getvalue(), 72))
    assert (largest <= 1, mean < 0.05) == (True, True), (largest, mean)
    (tmp_path / "image").write_bytes(data.getvalue())
    stored = read(store(data.getvalue(), Storage("square", 72)).jpeg)
    assert levels(stored, read_photograph(str(tmp_path / "image"), 72))[1] < 1


def test_the_areas_of_each_new_pixel_add_up_to_one_and_cover_the_old_ones_evenly():
    shares = areas(1000, 257)
    torch.testing.assert_close(shares.sum(1), torch.ones(257))
    torch.testing.assert_close(shares.sum(0), torch.full((1000,), 257 / 1000))


def test_ten_views_are_the_corners_the_centre_and_their_reflections():
    image = torch.arange(3 * 72 * 72).view(3, 72, 72)
    views = ten_views(image, 64)
    corners = [(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]
    for view, mirrored, (top, left) in zip(views[:5], views[5:], corners, strict=True):
        assert torch.equal(view, image[:, top : top + 64, left : left + 64])
        assert torch.equal(mirrored, view.flip(2))
