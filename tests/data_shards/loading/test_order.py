"""The order of an epoch: every sample once, shuffled differently each time, in few enough pieces."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from base.errors import InputError
from data_shards.loading.order import (
    MAX_PIECES,
    Lines,
    Piece,
    batch_places,
    draw_crops,
    epoch_order,
    stored_order,
    take,
    write_pieces,
)
from data_shards.shard_set import ShardSet


def keys(pieces: list[Piece]) -> list[str]:
    """Return the samples' keys in the order in which the pieces give them."""
    lines = [line for piece in pieces for line in piece.index_file.read_text("ascii").splitlines()[1:]]
    return [line.split()[3].removesuffix(".jpg") for line in lines]


def order(shards: ShardSet, directory: Path, seed: int = 0, epoch: int = 0) -> list[str]:
    directory.mkdir(exist_ok=True)
    return keys(write_pieces(epoch_order(shards, seed, epoch), directory))


def lines_of(order: list[Lines]) -> list[str]:
    return [line for piece in order for line in piece.lines]


@pytest.mark.parametrize("epoch", [0, 1, 89])
def test_an_epoch_holds_every_sample_once_and_each_in_its_own_tar(shards: ShardSet, tmp_path: Path, epoch: int) -> None:
    pieces = write_pieces(epoch_order(shards, 0, epoch), tmp_path)
    tar_of = dict(zip(shards.samples["key"], shards.samples["shard"], strict=True))
    assert Counter(keys(pieces)) == Counter(list(shards.samples["key"]))
    for piece in pieces:
        assert {tar_of[key] for key in keys([piece])} == {piece.tar.name}


def test_every_piece_says_how_many_samples_it_holds(shards: ShardSet, tmp_path: Path) -> None:
    for piece in write_pieces(epoch_order(shards, 0, 0), tmp_path):
        heading, *lines = piece.index_file.read_text("ascii").splitlines()
        assert heading == f"v1.2 {len(lines)}"
        assert 5 <= len(lines) <= 6


def test_pieces_hold_the_lines_of_the_index_as_they_are(shards: ShardSet, tmp_path: Path) -> None:
    pieces = write_pieces(epoch_order(shards, 0, 0), tmp_path)
    written = [line for piece in pieces for line in piece.index_file.read_text().splitlines()[1:]]
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
    pieces = write_pieces(epoch_order(shards, 0, 0), tmp_path / "epoch")
    assert 0.99 * MAX_PIECES < len(pieces) <= MAX_PIECES
    assert len(set(keys(pieces))) == len(keys(pieces)) == 3 * per_tar


def test_the_stored_order_is_that_of_the_list(shards: ShardSet) -> None:
    assert [line.split()[3].removesuffix(".jpg") for line in lines_of(stored_order(shards))] == list(shards.samples["key"])


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


@pytest.mark.parametrize("start", [0, 1, 4, 5, 17, 59, 60])
def test_an_epoch_can_be_resumed_at_any_sample(shards: ShardSet, start: int) -> None:
    whole = epoch_order(shards, 2, 3)
    assert lines_of(take(whole, np.arange(start, 60))) == lines_of(whole)[start:]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
@pytest.mark.parametrize(("batch_size", "start"), [(7, 0), (7, 33), (16, 0), (16, 59), (60, 0), (100, 2)])
def test_replicas_share_every_batch_and_together_have_the_order_of_one(
    shards: ShardSet, num_ranks: int, batch_size: int, start: int
) -> None:
    whole = epoch_order(shards, 2, 3)
    shares = [batch_places(60, batch_size, start, rank, num_ranks) for rank in range(num_ranks)]
    parts = [iter(lines_of(take(whole, np.concatenate(of_rank)))) for of_rank in shares]
    together = [next(parts[rank]) for batch in zip(*shares, strict=True) for rank, share in enumerate(batch) for _ in share]
    assert together == lines_of(whole)[start:]
    assert [place for batch in zip(*shares, strict=True) for share in batch for place in share] == list(range(start, 60))
    assert all(next(part, None) is None for part in parts)
    for batch in zip(*shares, strict=True):
        sizes = [len(share) for share in batch]
        assert sum(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("num_ranks", [2, 3, 5, 8])
def test_no_replica_has_more_of_the_last_batch_than_of_a_full_one(num_ranks: int) -> None:
    for batch_size in range(num_ranks, 40):
        for rest in range(1, batch_size):
            for rank in range(num_ranks):
                full, last = batch_places(batch_size + rest, batch_size, 0, rank, num_ranks)
                assert len(last) <= len(full)


def test_samples_of_one_tar_that_follow_each_other_stay_one_piece(shards: ShardSet) -> None:
    whole = epoch_order(shards, 0, 0)
    assert take(whole, np.concatenate(batch_places(60, 7))) == whole


def test_no_places_take_nothing(shards: ShardSet) -> None:
    assert take(epoch_order(shards, 0, 0), np.arange(0)) == []
    assert batch_places(60, 7, start=60) == []


def test_more_pieces_than_can_be_mapped_are_refused(tmp_path: Path) -> None:
    pieces = [Lines(tmp_path / "a.tar", ["line"])] * 60_001
    with pytest.raises(InputError, match="^an epoch has 60,001 pieces, but at most 60,000 can be mapped; use larger batches$"):
        write_pieces(pieces, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_images", [31, 32, 100])
def test_neighbours_share_their_draw_as_in_the_2012_code(num_images: int) -> None:
    single, shared = draw_crops(num_images, 32, 0, 0), draw_crops(num_images, 32, 0, 0, images_per_draw=32)
    rows = [(*corner, mirror) for corner, mirror in zip(shared.corner.tolist(), shared.mirror.tolist(), strict=True)]
    assert len(rows) == num_images
    groups = [rows[at : at + 32] for at in range(0, num_images, 32)]
    assert all(len(set(group)) == 1 for group in groups)
    assert len({group[0] for group in groups}) == len(groups)
    assert len({tuple(corner) for corner in single.corner.tolist()}) > 25
