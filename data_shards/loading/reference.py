"""The ten views without DALI, in Pillow and NumPy: slow and plain, the reference for `data_shards.loading.dali`.

Read by tests.
"""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_shards.shard_set import ShardSet

Pixels = NDArray[np.uint8]


def views(shards: ShardSet, crop: int, num_views: int) -> Iterator[Pixels]:
    """Yield every image in the order of the tars as fixed views (views, crop, crop, 3).

    One view is the centre; ten are the upper left, upper right, lower left and lower right corner and the centre, then their
    reflections. [K12 §4.1] If the centre falls between two pixels, it is the one further from the upper left corner.
    """
    for tar in shards.tars:
        rows = shards.samples[shards.samples["shard"] == tar.name]
        with open(tar, "rb") as file:
            for offset, size in zip(rows["offset"], rows["size"], strict=True):
                file.seek(offset)
                yield _views(_decode(file.read(size)), crop, num_views)


def _decode(jpeg: bytes) -> Pixels:
    """Return RGB pixels (H, W, 3); the rotation in EXIF is ignored."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB"))


def _views(image: Pixels, crop: int, num_views: int) -> Pixels:
    bottom, right = image.shape[0] - crop, image.shape[1] - crop
    centre = ((bottom + 1) // 2, (right + 1) // 2)
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    upright = np.stack([image[y : y + crop, x : x + crop] for y, x in (*corners, centre)])
    return np.concatenate((upright, upright[:, :, ::-1])) if num_views == 10 else upright[-1:]
