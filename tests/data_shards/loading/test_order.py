"""The order of an epoch: every sample once, shuffled differently each time, in few enough pieces."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_shards.loading.order import MAX_PIECES, Piece, draw_crops, stored_order, write_epoch_order
from data_shards.shard_set import ShardSet


def keys(pieces: list[Piece]) -> list[str]:
    """Return the samples' keys in the order in which the pieces give them."""
    lines = [line for piece in pieces for line in piece.index_file.read_text("ascii").splitlines()[1:]]
    return [line.split()[3].removesuffix(".jpg") for line in lines]


def order(shards: ShardSet, directory: Path, seed: int = 0, epoch: int = 0) -> list[str]:
    directory.mkdir(exist_ok=True)
    return keys(write_epoch_order(shards, seed, epoch, directory))


@pytest.mark.parametrize("epoch", [0, 1, 89])
def test_an_epoch_holds_every_sample_once_and_each_in_its_own_tar(shards: ShardSet, tmp_path: Path, epoch: int) -> None:
    pieces = write_epoch_order(shards, 0, epoch, tmp_path)
    tar_of = dict(zip(shards.samples["key"], shards.samples["shard"], strict=True))
    assert Counter(keys(pieces)) == Counter(list(shards.samples["key"]))
    for piece in pieces:
        assert {tar_of[key] for key in keys([piece])} == {piece.tar.name}


def test_every_piece_says_how_many_samples_it_holds(shards: ShardSet, tmp_path: Path) -> None:
    for piece in write_epoch_order(shards, 0, 0, tmp_path):
        heading, *lines = piece.index_file.read_text("ascii").splitlines()
        assert heading == f"v1.2 {len(lines)}"
        assert 5 <= len(lines) <= 6


def test_pieces_hold_the_lines_of_the_index_as_they_are(shards: ShardSet, tmp_path: Path) -> None:
    written = [
        line for piece in write_epoch_order(shards, 0, 0, tmp_path) for line in piece.index_file.read_text().splitlines()[1:]
    ]
    assert sorted(written) == sorted(line for lines in shards.index_lines for line in lines)


def test_seed_and_epoch_make_the_order_and_nothing_else_does(shards: ShardSet, tmp_path: Path) -> None:
    assert order(shards, tmp_path / "a", 3, 7) == order(ShardSet.open(shards.directory), tmp_path / "b", 3, 7)


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0), (1, 1)])
def test_another_seed_or_epoch_has_another_order(shards: ShardSet, tmp_path: Path, seed: int, epoch: int) -> None:
    first, other = order(shards, tmp_path / "a", 0, 0), order(shards, tmp_path / "b", seed, epoch)
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 10


def test_any_sample_may_come_first_and_neighbours_part(shards: ShardSet, tmp_path: Path) -> None:
    epochs = [order(shards, tmp_path / str(epoch), epoch=epoch) for epoch in range(150)]
    first = Counter(epoch[0] for epoch in epochs)
    assert len(first) >= 50, "of 60; each is expected two or three times"
    assert max(first.values()) <= 10
    for one, next_one in pairwise(epochs):
        assert len(set(pairwise(one)) & set(pairwise(next_one))) <= 12, "of 59 pairs, three are expected to meet again"


def test_a_set_of_any_size_is_read_in_no_more_than_the_allowed_pieces(tmp_path: Path) -> None:
    per_tar, tars = 27_500, ["a.tar", "b.tar", "c.tar"]
    for tar in tars:
        lines = "\n".join(f"jpg {n} 1 {tar}{n}.jpg cls {n} 1 {n}.cls" for n in range(per_tar))
        (tmp_path / tar).with_suffix(".idx").write_text(f"v1.2 {per_tar}\n{lines}\n")
    shards = ShardSet(tmp_path, pd.DataFrame({"shard": np.repeat(tars, per_tar)}), pd.DataFrame())
    (tmp_path / "epoch").mkdir()
    pieces = write_epoch_order(shards, 0, 0, tmp_path / "epoch")
    assert 0.99 * MAX_PIECES < len(pieces) <= MAX_PIECES
    assert len(set(keys(pieces))) == len(keys(pieces)) == 3 * per_tar


def test_the_stored_order_is_that_of_the_list(shards: ShardSet) -> None:
    assert keys(stored_order(shards)) == list(shards.samples["key"])


@pytest.mark.parametrize("play", [0, 1, 16, 29, 32])
def test_crops_lie_on_every_pixel_and_half_of_them_are_mirrored(play: int) -> None:
    draws = draw_crops(20_000, play, seed=0, epoch=0)
    for values in draws.corner.T:
        places = Counter(values.tolist())
        assert set(places) == set(range(play + 1))
        assert min(places.values()) > 0.75 * 20_000 / (play + 1)
    assert draws.mirror.mean() == pytest.approx(0.5, abs=0.02)
    assert set(draws.mirror.tolist()) == {0, 1}


def test_crops_are_drawn_apart_from_each_other_and_from_the_mirror() -> None:
    draws = draw_crops(20_000, 32, seed=0, epoch=0)
    correlations = np.corrcoef([*draws.corner.T, draws.mirror])
    assert np.abs(correlations - np.eye(3)).max() < 0.03


def test_crops_follow_from_seed_and_epoch() -> None:
    first = draw_crops(100, 32, 0, 0)
    assert all(np.array_equal(a, b) for a, b in zip(first, draw_crops(100, 32, 0, 0), strict=True))
    for seed, epoch in ((0, 1), (1, 0)):
        assert not any(np.array_equal(a, b) for a, b in zip(first, draw_crops(100, 32, seed, epoch), strict=True))
