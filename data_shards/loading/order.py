"""The order of an epoch: index files that permute the samples of plain tars, and each image's crop and reflection.

DALI reads index lines in any order and one tar any number of times, so a few small index files shuffle the whole set without
moving a byte. Everything follows from (seed, epoch): the same on a CPU and a GPU, whatever the batch size, wherever the epoch
is taken up again, and however many replicas share each batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_shards.shard_set import ShardSet
from data_shards.writing import INDEX_VERSION

MAX_PIECES = 16_384
"""Pieces an epoch's order is made of; each costs a memory map, of which Linux grants a process about 65,000."""

MAX_MAPS = 60_000
"""Pieces that one process may read, after the sharing of batches has cut them."""


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
    """(N,) 1 where the image is mirrored."""

    def at(self, spans: Sequence[range]) -> "Draws":
        """Return the draws of the images at these places of the epoch."""
        places = np.concatenate([np.arange(0), *(np.arange(span.start, span.stop) for span in spans)])
        return Draws(self.corner[places], self.mirror[places])


def epoch_order(shards: ShardSet, seed: int, epoch: int) -> list[Lines]:
    """Return every sample once, in an order drawn from (seed, epoch).

    Each tar's samples are permuted and cut into pieces, and the pieces of all tars are permuted together. The tars were
    shuffled as a whole when they were written, so a piece is itself a random draw from the set.
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


def batch_spans(num_images: int, batch_size: int, start: int = 0, rank: int = 0, num_ranks: int = 1) -> list[range]:
    """Return which places of the epoch, from `start` on, replica `rank` of `num_ranks` has of each batch.

    A batch is cut into as many parts as there are replicas, so that the order does not depend on their number. The first
    replicas have one more where it does not divide: no part of a smaller batch is larger than that of a full one.
    """
    spans = []
    for first in range(start, num_images, batch_size):
        share, over = divmod(min(batch_size, num_images - first), num_ranks)
        begin = first + rank * share + min(rank, over)
        spans.append(range(begin, begin + share + (rank < over)))
    return spans


def take(order: Sequence[Lines], spans: Sequence[range]) -> list[Lines]:
    """Return the samples at these places of an order; the places rise."""
    ends = np.cumsum([len(piece.lines) for piece in order])
    taken: list[Lines] = []
    for start, stop in _joined(spans):
        first, last = np.searchsorted(ends, (start, stop - 1), side="right")
        for piece, end in zip(order[first : last + 1], ends[first : last + 1], strict=True):
            begin = int(end) - len(piece.lines)
            taken.append(Lines(piece.tar, piece.lines[max(0, start - begin) : stop - begin]))
    return taken


def write_pieces(order: Sequence[Lines], directory: Path) -> list[Piece]:
    """Write index files that hold these samples in this order.

    Raises:
        ValueError: more pieces than a process can map.
    """
    if len(order) > MAX_MAPS:
        raise ValueError(f"{len(order):,} pieces to read in an epoch, at most {MAX_MAPS:,} can be mapped; take larger batches")
    return [_write_piece(piece, directory / f"{number:05d}.idx") for number, piece in enumerate(order)]


def draw_crops(num_images: int, play: int, seed: int, epoch: int, images_per_draw: int = 1) -> Draws:
    """Draw for each image one of the (play + 1)² places of the crop, and its reflection with probability ½. [K12 §4.1]

    With `images_per_draw` above one so many neighbours in the epoch share theirs. [CHM convdata_jpeg]
    """
    random = _generator(seed, epoch, stream=1)
    num_draws = -(-num_images // images_per_draw)
    corner = random.integers(0, play + 1, size=(num_draws, 2), dtype=np.int32)
    mirror = random.integers(0, 2, size=num_draws, dtype=np.int32)
    return Draws(corner.repeat(images_per_draw, axis=0)[:num_images], mirror.repeat(images_per_draw)[:num_images])


def _generator(seed: int, epoch: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, epoch, stream]))


def _parts(order: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
    """Cut an order into pieces of five or more, at most `most` of them."""
    return np.array_split(order, max(1, min(most, len(order) // 5)))


def _joined(spans: Sequence[range]) -> list[tuple[int, int]]:
    """Where one span ends and the next begins at the same place, one span."""
    joined: list[tuple[int, int]] = []
    for span in spans:
        if joined and joined[-1][1] == span.start:
            joined[-1] = (joined[-1][0], span.stop)
        elif span:
            joined.append((span.start, span.stop))
    return joined


def _write_piece(piece: Lines, index_file: Path) -> Piece:
    index_file.write_text(f"{INDEX_VERSION} {len(piece.lines)}\n" + "\n".join(piece.lines) + "\n", encoding="ascii")
    return Piece(piece.tar, index_file)
