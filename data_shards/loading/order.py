"""The order of an epoch: index files that permute the samples of plain tars, and each image's crop and reflection.

DALI reads index lines in any order and one tar any number of times. So a few small index files shuffle the whole set without
moving a byte. The order depends on (seed, epoch) alone: not on the device, the batch size, the number of replicas or the
position from which an epoch is resumed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from base.errors import InputError
from data_shards.shard_format import index_file
from data_shards.shard_set import ShardSet

MAX_PIECES = 16_384
"""(ours) The order of an epoch has at most this many pieces. Each takes a memory map; Linux allows a process about 65,000."""

MAX_MAPS = 60_000
"""(ours) One process reads at most this many pieces: sharing batches among replicas cuts them further."""


Places = NDArray[np.int64]
"""(N,) Positions in an order, from 0."""


class Lines(NamedTuple):
    """Samples of one tar, as lines of its index."""

    tar: Path
    lines: list[str]


class Piece(NamedTuple):
    """One tar with an index of some of its samples: a shard to DALI."""

    tar: Path
    index_file: Path


class Draws(NamedTuple):
    """Where each image of an epoch is cropped, and whether it is mirrored."""

    corner: NDArray[np.int32]
    """(N, 2) The crop's left and upper edge in pixels."""
    mirror: NDArray[np.int32]
    """(N,) 1 if the image is mirrored, else 0."""


def epoch_order(shards: ShardSet, seed: int, epoch: int) -> list[Lines]:
    """Return every sample once, in an order drawn from (seed, epoch).

    The samples of each tar are permuted and cut into pieces, and the pieces of all tars are permuted together. The whole set
    was shuffled before it was written, so each piece is itself a random draw from the set.
    """
    random = _generator(seed, epoch, stream=0)
    tars = stored_order(shards)
    per_tar = max(1, MAX_PIECES // len(tars))
    cut = [
        Lines(tar, [lines[i] for i in part]) for tar, lines in tars for part in _parts(random.permutation(len(lines)), per_tar)
    ]
    return [cut[i] for i in random.permutation(len(cut))]


def stored_order(shards: ShardSet) -> list[Lines]:
    """Return every sample once, in the order of the tars."""
    return [Lines(tar, lines) for tar, lines in zip(shards.tars, shards.index_lines, strict=True)]


def batch_places(num_images: int, batch_size: int, start: int = 0, rank: int = 0, num_ranks: int = 1) -> list[Places]:
    """Return the positions in the epoch, from `start` on, of replica `rank`'s part of each batch.

    A batch is cut into one part for each replica, so that the order does not depend on their number. If it does not divide
    evenly, the first replicas get one image more: no part of a smaller batch is larger than that of a full one.
    """
    batches = (np.arange(first, min(first + batch_size, num_images)) for first in range(start, num_images, batch_size))
    return [np.array_split(batch, num_ranks)[rank] for batch in batches]


def take(order: Sequence[Lines], places: Places) -> list[Lines]:
    """Return the samples at these positions of an order; the positions increase."""
    ends = np.cumsum([len(piece.lines) for piece in order])
    taken: list[Lines] = []
    for run in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1) if len(places) else []:
        start, stop = int(run[0]), int(run[-1]) + 1
        first, last = np.searchsorted(ends, (start, stop - 1), side="right")
        for piece, end in zip(order[first : last + 1], ends[first : last + 1], strict=True):
            begin = int(end) - len(piece.lines)
            taken.append(Lines(piece.tar, piece.lines[max(0, start - begin) : stop - begin]))
    return taken


def write_pieces(order: Sequence[Lines], directory: Path) -> list[Piece]:
    """Write index files that hold these samples in this order.

    Raises:
        InputError: there are more pieces than a process can map.
    """
    if len(order) > MAX_MAPS:
        raise InputError(f"an epoch has {len(order):,} pieces, but at most {MAX_MAPS:,} can be mapped; use larger batches")
    pieces = [Piece(tar, directory / f"{number:05d}.idx") for number, (tar, _) in enumerate(order)]
    for (_, lines), piece in zip(order, pieces, strict=True):
        piece.index_file.write_bytes(index_file(lines))
    return pieces


def draw_crops(num_images: int, play: int, seed: int, epoch: int, images_per_draw: int = 1) -> Draws:
    """Draw for each image one of the (play + 1)² positions of the crop, and its reflection with probability ½. [K12 §4.1]

    With `images_per_draw` above one, that many neighbours in the epoch share a draw. [CHM convdata_jpeg]
    """
    random = _generator(seed, epoch, stream=1)
    num_draws = -(-num_images // images_per_draw)
    corner = random.integers(0, play + 1, size=(num_draws, 2), dtype=np.int32)
    mirror = random.integers(0, 2, size=num_draws, dtype=np.int32)
    return Draws(corner.repeat(images_per_draw, axis=0)[:num_images], mirror.repeat(images_per_draw)[:num_images])


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, epoch, stream]))


def _parts(order: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
    """Return an order cut into at most `most` pieces of five samples or more."""
    return np.array_split(order, max(1, min(most, len(order) // 5)))
