"""DALI's batches, pixel by pixel: every image once, cropped and mirrored as drawn, and the ten fixed views."""

from collections import Counter
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from base.errors import InputError
from data_shards.datasets.dataset import Dataset, ImageClass, Sample, Split, as_rows, as_table
from data_shards.datasets.synthetic import Synthetic
from data_shards.decoding import decode_jpeg
from data_shards.loading.dali import Loader
from data_shards.loading.order import draw_crops
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet

CROP = 56
PLAY = 72 - CROP
Stored = NDArray[np.uint8]
"""All stored images in the order of the list, (60, 72, 72, 3)."""


class Found(NamedTuple):
    """Which part of which stored image a crop is."""

    image: int
    x: int
    y: int
    mirrored: bool


def loader(shards: ShardSet, batch_size: int = 20, crop: int = CROP, num_threads: int = 1) -> Loader:
    return Loader(shards, crop, batch_size, torch.device("cpu"), num_threads)


def epoch_of(shards: ShardSet, seed: int = 0, epoch: int = 0, **options: int) -> tuple[Tensor, Tensor]:
    """Return a whole epoch as one batch."""
    batches = list(loader(shards, **options).training_epoch(seed, epoch))
    return torch.cat([images for images, _, _ in batches]), torch.cat([labels for _, labels, _ in batches])


def pieces_of(image: Stored, index: int) -> dict[bytes, Found]:
    """Return every crop that can be had of an image, mirrored or not."""
    found: dict[bytes, Found] = {}
    for y in range(PLAY + 1):
        for x in range(PLAY + 1):
            crop = image[y : y + CROP, x : x + CROP]
            found[crop[::9].tobytes()] = Found(index, x, y, mirrored=False)
            found[crop[::9, ::-1].tobytes()] = Found(index, x, y, mirrored=True)
    return found


@pytest.fixture(scope="module")
def stored(shards: ShardSet) -> Stored:
    tars = {tar.name: tar.read_bytes() for tar in shards.tars}
    return np.stack([decode_jpeg(tars[row.shard][row.offset :][: row.size]) for row in shards.samples.itertuples()])


@pytest.fixture(scope="module")
def known(stored: Stored) -> dict[bytes, Found]:
    """Every crop of every stored image, by every ninth row of its pixels."""
    crops = [pieces_of(image, index) for index, image in enumerate(stored)]
    found = {pixels: place for of_one in crops for pixels, place in of_one.items()}
    assert len(found) == 60 * (PLAY + 1) ** 2 * 2, "two crops look alike: the test cannot tell them apart"
    return found


def located(images: Tensor, known: dict[bytes, Found], stored: Stored) -> list[Found]:
    """Return what each crop is a part of, having compared all its pixels."""
    places = [known[image[::9].tobytes()] for image in images.numpy()]
    for image, place in zip(images.numpy(), places, strict=True):
        crop = stored[place.image, place.y : place.y + CROP, place.x : place.x + CROP]
        assert np.array_equal(image, crop[:, ::-1] if place.mirrored else crop)
    return places


@pytest.mark.parametrize("batch_size", [1, 7, 20, 60, 61, 64, 200])
def test_a_training_epoch_gives_every_image_once_as_a_crop_of_itself(
    shards: ShardSet, stored: Stored, known: dict[bytes, Found], batch_size: int
) -> None:
    batches = list(loader(shards, batch_size).training_epoch(0, 0))
    full, rest = divmod(60, batch_size)
    assert [len(images) for images, _, _ in batches] == [batch_size] * full + [rest] * (rest > 0)
    places = [place for images, _, _ in batches for place in located(images, known, stored)]
    assert Counter(place.image for place in places) == Counter(range(60))
    labels = torch.cat([labels for _, labels, _ in batches])
    assert labels.tolist() == shards.class_indices[[place.image for place in places]].tolist()


@pytest.mark.parametrize(("start", "batch_size"), [(1, 20), (20, 20), (41, 7), (59, 20), (60, 20)])
def test_an_epoch_resumed_at_any_position_yields_the_rest(shards: ShardSet, start: int, batch_size: int) -> None:
    images, labels = epoch_of(shards, 1, 2)
    batches = list(loader(shards, batch_size).training_epoch(1, 2, start))
    assert torch.equal(torch.cat([images[:0], *(images for images, _, _ in batches)]), images[start:])
    assert torch.equal(torch.cat([labels[:0], *(labels for _, labels, _ in batches)]), labels[start:])
    assert [place for _, _, places in batches for place in places.tolist()] == list(range(start, 60))


@pytest.mark.parametrize(("num_ranks", "batch_size", "start"), [(2, 20, 4), (2, 7, 4), (3, 29, 4), (4, 59, 4), (5, 8, 5)])
def test_replicas_share_each_batch_and_together_see_what_one_does(
    shards: ShardSet, num_ranks: int, batch_size: int, start: int
) -> None:
    whole, labels = epoch_of(shards, 1, 2)
    loaders = [Loader(shards, CROP, batch_size, torch.device("cpu"), 1, 1, rank, num_ranks) for rank in range(num_ranks)]
    seen: list[list[int]] = []
    for batch in zip(*(one.training_epoch(1, 2, start) for one in loaders), strict=True):
        for images, own, places in batch:
            assert torch.equal(images, whole[places])
            assert torch.equal(own, labels[places])
        seen.append([place for _, _, places in batch for place in places.tolist()])
    assert seen == [list(range(first, min(first + batch_size, 60))) for first in range(start, 60, batch_size)]
    views = [batch for one in loaders for batch in one.views(1)]
    assert torch.equal(torch.cat([images for images, _, _ in views]), torch.cat([v for v, _, _ in loader(shards).views(1)]))
    assert torch.cat([places for _, _, places in views]).tolist() == list(range(60))


def test_a_replica_without_a_part_of_the_last_batch_yields_an_empty_one(shards: ShardSet) -> None:
    *_, last = Loader(shards, CROP, 59, torch.device("cpu"), 1, rank=1, num_ranks=2).training_epoch(0, 0)
    assert [(part.dtype, tuple(part.shape)) for part in last] == [
        (torch.uint8, (0, CROP, CROP, 3)),
        (torch.int64, (0,)),
        (torch.int64, (0,)),
    ]


def test_a_batch_smaller_than_the_replicas_is_refused(shards: ShardSet) -> None:
    with pytest.raises(InputError, match="^a batch of 3 cannot be shared by 4 replicas; use larger batches$"):
        Loader(shards, CROP, 3, torch.device("cpu"), 1, rank=0, num_ranks=4)


def test_neighbours_share_a_crop_if_asked_to(shards: ShardSet, stored: Stored, known: dict[bytes, Found]) -> None:
    ((images, _, _),) = Loader(shards, CROP, 60, torch.device("cpu"), 1, images_per_draw=32).training_epoch(0, 0)
    places = [(place.x, place.y, place.mirrored) for place in located(images, known, stored)]
    assert [len(set(places[:32])), len(set(places[32:])), len(set(places))] == [1, 1, 2]


def test_an_overwritten_image_is_reported_in_one_sentence(write_set: Any, tmp_path: Path) -> None:
    shards = ShardSet.open(write_set(tmp_path / "set"))
    row = shards.samples.iloc[20]
    with open(tmp_path / "set" / row["shard"], "r+b") as tar:
        tar.seek(row["offset"])
        tar.write(bytes(row["size"]))
    message = (
        r"^cannot read the images of .*/set \(nvImageCodec failure.*\); check it with python -m flows.verify, "
        r"and delete it to shard again if it has changed$"
    )
    with pytest.raises(InputError, match=message):
        list(loader(shards).training_epoch(0, 0))


def test_a_batch_is_bytes_of_colour_whole_labels_and_whole_places(shards: ShardSet) -> None:
    images, labels, places = next(loader(shards).training_epoch(0, 0))
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (20, CROP, CROP, 3))
    assert (labels.dtype, tuple(labels.shape)) == (torch.int64, (20,))
    assert (places.dtype, tuple(places.shape)) == (torch.int64, (20,))


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"batch_size": 60}, {"batch_size": 200}, {"num_threads": 3}])
def test_neither_batch_size_nor_threads_change_order_or_crops(shards: ShardSet, options: dict[str, int]) -> None:
    images, labels = epoch_of(shards, 1, 2)
    others = epoch_of(shards, 1, 2, **options)
    assert torch.equal(images, others[0])
    assert torch.equal(labels, others[1])


@pytest.mark.parametrize(("seed", "epoch"), [(0, 1), (1, 0)])
def test_another_seed_or_epoch_has_another_order_and_other_crops(
    shards: ShardSet, stored: Stored, known: dict[bytes, Found], seed: int, epoch: int
) -> None:
    first = located(epoch_of(shards, 0, 0)[0], known, stored)
    other = located(epoch_of(shards, seed, epoch)[0], known, stored)
    assert sum(a.image == b.image for a, b in zip(first, other, strict=True)) < 10
    assert len(set(first) & set(other)) < 5, "an image keeps its crop once in 578"


def test_crops_reach_every_edge_and_half_are_mirrored(shards: ShardSet, stored: Stored, known: dict[bytes, Found]) -> None:
    places = [place for epoch in range(4) for place in located(epoch_of(shards, 0, epoch)[0], known, stored)]
    assert {place.x for place in places} == {place.y for place in places} == set(range(PLAY + 1))
    assert 0.4 < np.mean([place.mirrored for place in places]) < 0.6
    assert len({place.mirrored for place in places if place.image == 0}) == 2


def test_the_draws_are_those_that_were_drawn_for_the_epoch(shards: ShardSet, stored: Stored, known: dict[bytes, Found]) -> None:
    draws = draw_crops(60, PLAY, 5, 3)
    expected = [(x, y, bool(m)) for (x, y), m in zip(*(d.tolist() for d in draws), strict=True)]
    assert [(p.x, p.y, p.mirrored) for p in located(epoch_of(shards, 5, 3)[0], known, stored)] == expected


@pytest.mark.parametrize("batch_size", [7, 60, 64])
def test_ten_views_are_the_corners_the_centre_and_their_reflections(shards: ShardSet, stored: Stored, batch_size: int) -> None:
    """Exactly: what is stored is 4:2:0, and both decoders are libjpeg-turbo."""
    batches = list(loader(shards, batch_size).views(10))
    views = torch.cat([images for images, _, _ in batches]).numpy()
    low, middle, high = slice(0, CROP), slice(PLAY // 2, PLAY // 2 + CROP), slice(PLAY, 72)
    upright = [stored[:, y, x] for y, x in ((low, low), (low, high), (high, low), (high, high), (middle, middle))]
    assert views.shape == (60, 10, CROP, CROP, 3)
    for number, expected in enumerate(upright + [view[:, :, ::-1] for view in upright]):
        assert np.array_equal(views[:, number], expected), f"view {number} is not what it should be"
    assert torch.cat([labels for _, labels, _ in batches]).tolist() == shards.class_indices.tolist()


def test_one_view_is_the_centre(shards: ShardSet, stored: Stored) -> None:
    batches = list(loader(shards, 7).views(1))
    views = torch.cat([images for images, _, _ in batches]).numpy()
    half = PLAY // 2
    assert np.array_equal(views, stored[:, None, half : half + CROP, half : half + CROP])
    assert torch.cat([labels for _, labels, _ in batches]).tolist() == shards.class_indices.tolist()


def test_a_crop_of_the_whole_square_is_the_square(shards: ShardSet, stored: Stored) -> None:
    (images, labels, _), *_ = loader(shards, 60, crop=72).training_epoch(0, 0)
    for image, label in zip(images.numpy(), labels.tolist(), strict=True):
        twins = [index for index, whole in enumerate(stored) if any(np.array_equal(image, w) for w in (whole, whole[:, ::-1]))]
        assert [shards.class_indices[index] for index in twins] == [label]


def test_crops_that_do_not_fit_are_refused(shards: ShardSet) -> None:
    with pytest.raises(InputError, match="^crops of 73 px do not fit the images of 72 px in .*train; use smaller crops"):
        next(loader(shards, crop=73).training_epoch(0, 0))


def test_no_index_files_are_left_once_dali_has_read_them(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    batches, views = loader(shards, 7).training_epoch(0, 0), loader(shards, 7).views(1)
    next(batches)
    next(views)
    assert not list(tmp_path.iterdir())
    assert sum(len(images) for images, _, _ in batches) == sum(len(images) for images, _, _ in views) == 60 - 7


def test_epochs_in_a_row_are_those_that_one_at_a_time_gives(shards: ShardSet, tmp_path: Path) -> None:
    directory = tmp_path / "orders"
    (directory / "7").mkdir(parents=True)
    (directory / "7" / "00000.idx").write_text("left by a killed run")
    epochs = loader(shards, 7).training_epochs(1, directory, 2, 20)
    for epoch, start in ((2, 20), (3, 0), (4, 0)):
        images, labels = epoch_of(shards, 1, epoch)
        batches = list(next(epochs))
        assert torch.equal(torch.cat([images for images, _, _ in batches]), images[start:])
        assert torch.equal(torch.cat([labels for _, labels, _ in batches]), labels[start:])
    epochs.close()
    assert not list(tmp_path.iterdir())


def test_while_an_epoch_is_read_the_next_one_is_prepared(shards: ShardSet, tmp_path: Path) -> None:
    epochs = loader(shards, 7).training_epochs(0, tmp_path / "orders")
    next(next(epochs))
    deadline = monotonic() + 60
    while not (tmp_path / "orders" / "1").exists() and monotonic() < deadline:
        sleep(0.01)
    epochs.close()
    assert monotonic() < deadline


def test_an_order_that_cannot_be_written_is_an_error(shards: ShardSet, tmp_path: Path) -> None:
    (tmp_path / "no_folder").write_text("")
    with pytest.raises(OSError, match="no_folder"):
        next(loader(shards, 7).training_epochs(0, tmp_path / "no_folder" / "orders"))


class Labels(Dataset):
    """1,001 classes, of which some have an image: the numbers have one digit to four."""

    name = "labels"
    drawn = Synthetic(train_per_class=1, val_per_class=1, side=64)

    def classes(self) -> list[ImageClass]:
        return [ImageClass(f"n{number:08d}", "") for number in range(1001)]

    def samples(self, split: Split) -> pa.Table:
        return as_table(Sample(f"n{n:08d}", f"{n}.JPEG", str(n)) for n in (0, 1, 9, 10, 42, 99, 100, 101, 999, 1000))

    def identity(self, split: Split) -> dict[str, Any]:
        return {}

    def read(self, sample: Sample) -> bytes:
        return self.drawn.read(as_rows(self.drawn.samples("val"))[0])


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_labels_of_one_digit_to_four_come_out_as_they_went_in(write_set: Any, tmp_path: Path, batch_size: int) -> None:
    shards = ShardSet.open(write_set(tmp_path / "set", Labels(), config=ShardConfig(storage="square64", samples_per_shard=4)))
    labels = torch.cat([labels for _, labels, _ in loader(shards, batch_size).views(1)])
    assert labels.tolist() == list(shards.samples["class_index"])
    assert sorted(labels.tolist()) == [0, 1, 9, 10, 42, 99, 100, 101, 999, 1000]


def test_an_index_that_lost_a_sample_is_an_error(write_set: Any, tmp_path: Path) -> None:
    directory = write_set(tmp_path / "set")
    index = directory / "train-00001.idx"
    lines = index.read_text().splitlines()
    index.write_text("\n".join(["v1.2 15", *lines[1:-1]]) + "\n")
    with pytest.raises(RuntimeError, match="^the loader gave 59 images of .*set, expected 60$"):
        list(loader(ShardSet.open(directory), 60).views(1))
