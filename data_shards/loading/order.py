"""The order of an epoch: index files that permute the samples of plain tars, and each image's crop and reflection.

DALI reads index lines in any order and one tar any number of times, so a few small index files shuffle the whole set without
moving a byte. Everything follows from (seed, epoch): the same on a CPU and a GPU, whatever the batch size.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_shards.shard_set import ShardSet
from data_shards.writing import INDEX_VERSION

MAX_PIECES = 16_384
"""Pieces an epoch is read in; each costs a memory map, of which Linux grants a process about 65,000."""


class Piece(NamedTuple):
    """One tar with an index of some of its samples: a shard to DALI."""

    tar: Path
    index_file: Path


class Draws(NamedTuple):
    """Where each image of an epoch is cropped, and whether it is mirrored."""

    corner: NDArray[np.int32]
    """(N, 2) The crop's left and upper edge in pixels."""
    mirror: NDArray[np.int32]
    """(N,) 1 where the image is mirrored."""


def write_epoch_order(shards: ShardSet, seed: int, epoch: int, directory: Path) -> list[Piece]:
    """Write index files that hold every sample once, in an order drawn from (seed, epoch).

    Each tar's samples are permuted and cut into pieces, and the pieces of all tars are permuted together. The tars were
    shuffled as a whole when they were written, so a piece is itself a random draw from the set.
    """
    random = _generator(seed, epoch, stream=0)
    pieces = [(tar, lines) for tar, lines in zip(shards.tars, shards.index_lines, strict=True)]
    per_tar = max(1, MAX_PIECES // len(pieces))
    cut = [(tar, [lines[i] for i in part]) for tar, lines in pieces for part in _parts(random.permutation(len(lines)), per_tar)]
    return [_write_piece(cut[i], directory / f"{n:05d}.idx") for n, i in enumerate(random.permutation(len(cut)))]


def stored_order(shards: ShardSet) -> list[Piece]:
    """Every sample once, in the order of the tars."""
    return [Piece(tar, tar.with_suffix(".idx")) for tar in shards.tars]


def draw_crops(num_images: int, play: int, seed: int, epoch: int) -> Draws:
    """Draw for each image one of the (play + 1)² places of the crop, and its reflection with probability ½. [K12 §4.1]"""
    random = _generator(seed, epoch, stream=1)
    corner = random.integers(0, play + 1, size=(num_images, 2), dtype=np.int32)
    return Draws(corner, random.integers(0, 2, size=num_images, dtype=np.int32))


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, epoch, stream]))


def _parts(order: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
    """Cut an order into pieces of five or more, at most `most` of them."""
    return np.array_split(order, max(1, min(most, len(order) // 5)))


def _write_piece(piece: tuple[Path, list[str]], index_file: Path) -> Piece:
    tar, lines = piece
    index_file.write_text(f"{INDEX_VERSION} {len(lines)}\n" + "\n".join(lines) + "\n", encoding="ascii")
    return Piece(tar, index_file)
