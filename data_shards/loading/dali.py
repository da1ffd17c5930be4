"""Shards to batches through NVIDIA DALI, on the GPU or on its CPU backend: the only module that imports DALI.

Called by the workers in `tasks.workers`.
"""

import shutil
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import pipeline_def
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIGenericIterator
from torch import Tensor

from base.errors import InputError
from data_shards.loading.order import (
    Draws,
    Piece,
    Places,
    batch_places,
    draw_crops,
    epoch_order,
    stored_order,
    take,
    write_pieces,
)
from data_shards.shard_set import ShardSet

Batch = tuple[Tensor, Tensor, Tensor]
"""Images, uint8 (N, H, W, 3) or views (N, views, H, W, 3), nothing subtracted; class indices, int64 (N,), both on the device;
places, int64 (N,) on the CPU: positions in the epoch's order or, for views, in the order of the tars."""

ENGINE_THREADS = 30
"""(ours) A GPU's JPEG engine counts as this many threads: 16 threads then give DALI's own load of .65. Not measured yet."""

RGB: dict[str, Any] = {"output_type": types.RGB, "adjust_orientation": False, "jpeg_fancy_upsampling": True}
"""Ignores the rotation in EXIF; the CPU and the GPU upsample chroma alike."""

CORNERS_AND_CENTRE = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))
"""[K12 §4.1] (x, y) as fractions of the room that a crop has; each view is also mirrored."""


class _Order(NamedTuple):
    """A replica's part of an epoch, or of the rest of it, written to disk for DALI."""

    directory: Path
    """Of the index files, which are not needed after DALI has read them."""
    pieces: list[Piece]
    draws: Draws
    """Of the whole epoch."""
    batches: list[Places]
    """The replica's part of each."""


@dataclass(frozen=True)
class Loader:
    """Batches of one shard set on one device."""

    shards: ShardSet
    crop: int
    """Side of the crops in pixels."""
    batch_size: int
    device: torch.device
    num_threads: int
    """CPU threads that decode."""
    images_per_draw: int = 1
    """How many neighbours share a crop and reflection."""
    rank: int = 0
    num_ranks: int = 1
    """This loader yields part `rank` of each batch; there are `num_ranks` parts."""
    engine_load: float | None = None
    """Share of the images that a GPU's JPEG engine decodes. By default it grows as `num_threads` falls."""

    def __post_init__(self) -> None:
        if self.crop > self.shards.side:  # DALI crashes on a region outside its image
            raise InputError(
                f"crops of {self.crop} px do not fit the images of {self.shards.side} px in {self.shards.directory}; "
                f"use smaller crops, or shard with a larger side"
            )
        if self.batch_size < self.num_ranks:
            raise InputError(f"a batch of {self.batch_size} cannot be shared by {self.num_ranks} replicas; use larger batches")

    def training_epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield every image from position `start` on once, shuffled, cropped and mirrored at random from (seed, epoch).

        Images are (N, crop, crop, 3). Each replica yields its part of each batch; its part of the last one may be empty.
        """
        with tempfile.TemporaryDirectory(prefix="epoch-order-") as directory:
            yield from self._training_batches(self._write_order(seed, epoch, start, Path(directory)))

    def training_epochs(self, seed: int, directory: Path, epoch: int = 0, start: int = 0) -> Generator[Iterator[Batch]]:
        """Yield epoch after epoch without end, the first from position `start` on, each as `training_epoch` yields it.

        While one epoch is read, the order of the next is written into `directory`. What a killed run left there is removed.
        """
        shutil.rmtree(directory, ignore_errors=True)
        try:
            with ThreadPoolExecutor(1) as background:
                following = background.submit(self._write_order, seed, epoch, start, directory / str(epoch))
                for number in count(epoch + 1):
                    order = following.result()
                    following = background.submit(self._write_order, seed, number, 0, directory / str(number))
                    yield self._training_batches(order)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def views(self, num_views: int) -> Iterator[Batch]:
        """Yield every image once, in the order of the tars, as fixed views (N, views, crop, crop, 3).

        One view is the centre. Ten are the four corners and the centre, then their reflections. [K12 §4.1]
        Each replica yields its part of the set. In a set without labels every class index is 0 and means nothing.
        """
        crops = CORNERS_AND_CENTRE if num_views == 10 else CORNERS_AND_CENTRE[-1:]
        places = np.array_split(np.arange(len(self.shards)), self.num_ranks)[self.rank]
        if not len(places):
            return
        with tempfile.TemporaryDirectory(prefix="stored-order-") as directory:
            pieces = write_pieces(take(stored_order(self.shards), places), Path(directory))
            pipeline = _view_pipeline(self.crop, crops, **self._options(pieces, self.batch_size))
            for views, class_indices, of_batch in self._batches(pipeline, Path(directory), places):
                mirrored = (views, views.flip(3)) if num_views == 10 else (views,)
                yield torch.cat(mirrored, dim=1), class_indices, of_batch

    def _write_order(self, seed: int, epoch: int, start: int, directory: Path) -> _Order:
        batches = batch_places(len(self.shards), self.batch_size, start, self.rank, self.num_ranks)
        draws = draw_crops(len(self.shards), self.shards.side - self.crop, seed, epoch, self.images_per_draw)
        directory.mkdir(parents=True, exist_ok=True)
        pieces = write_pieces(take(epoch_order(self.shards, seed, epoch), _joined(batches)), directory)
        return _Order(directory, pieces, draws, batches)

    def _training_batches(self, order: _Order) -> Iterator[Batch]:
        if order.pieces:
            everything, share = _joined(order.batches), len(order.batches[0])
            draws = Draws(order.draws.corner[everything], order.draws.mirror[everything])
            pipeline = _training_pipeline(self.crop, draws, share, **self._options(order.pieces, share))
            for images, class_indices, places in self._batches(pipeline, order.directory, everything):
                if self.device.type == "cpu":
                    _mirror(images, order.draws.mirror[places.numpy()])
                yield images, class_indices, places
        if order.batches and not len(order.batches[-1]):
            empty = torch.empty(0, dtype=torch.int64)
            images = torch.empty(0, self.crop, self.crop, 3, dtype=torch.uint8, device=self.device)
            yield images, empty.to(self.device), empty

    def _options(self, pieces: list[Piece], batch_size: int) -> dict[str, Any]:
        on_gpu = self.device.type == "cuda"
        return {
            "tars": [str(piece.tar) for piece in pieces],
            "indexes": [str(piece.index_file) for piece in pieces],
            "labelled": self.shards.labelled,
            "decoding": {
                "device": "mixed" if on_gpu else "cpu",
                "hw_decoder_load": (
                    ENGINE_THREADS / (ENGINE_THREADS + self.num_threads) if self.engine_load is None else self.engine_load
                ),
            },
            "batch_size": batch_size,
            "num_threads": self.num_threads,
            "device_id": (self.device.index or 0) if on_gpu else None,
        }

    def _batches(self, pipeline: Any, index_files: Path, places: Places) -> Iterator[Batch]:
        """Yield what the pipeline gives, the images at these places; assert that none is missing or repeated."""
        seen = 0
        for batch in self._iterate(pipeline, index_files):
            images = batch["images"]
            of_batch = torch.from_numpy(places[seen : seen + len(images)])
            seen += len(images)
            yield images, self._to_device(_class_indices(batch["digits"])), of_batch
        if seen != len(places):
            raise RuntimeError(f"the loader gave {seen:,} images of {self.shards.directory}, expected {len(places):,}")

    def _iterate(self, pipeline: Any, index_files: Path) -> Iterator[dict[str, Tensor]]:
        try:
            iterator = DALIGenericIterator(
                [pipeline],
                ["images", "digits"],
                reader_name="shards",
                last_batch_policy=LastBatchPolicy.PARTIAL,
                auto_reset=False,
            )
            shutil.rmtree(index_files)  # DALI has read them; a killed run leaves none
            for (batch,) in iterator:
                yield batch
        except RuntimeError as error:  # DALI raises nothing else
            raise InputError(
                f"cannot read the images of {self.shards.directory} ({_sentence(error)}); "
                f"check it with python -m flows.verify, and delete it to shard again if it has changed"
            ) from error

    def _to_device(self, values: Tensor) -> Tensor:
        """Copy from pinned memory: a copy from other memory waits until the GPU has finished all its work."""
        return values if self.device.type == "cpu" else values.pin_memory().to(self.device, non_blocking=True)


class _InBatches:
    """A source for DALI that returns an epoch's draws batch after batch."""

    def __init__(self, draws: NDArray[np.int32], batch_size: int) -> None:
        # DALI fills the last batch up and prefetches beyond it. What it adds is cut off or never used.
        self.draws = np.resize(draws, (len(draws) + batch_size, *draws.shape[1:]))
        self.batch_size = batch_size
        self.start = 0

    def __call__(self) -> Any:
        start = min(self.start, len(self.draws) - self.batch_size)
        self.start += self.batch_size
        return self.draws[start : start + self.batch_size]


@pipeline_def  # type: ignore[untyped-decorator]  # DALI declares no types
def _training_pipeline(
    crop: int, draws: Draws, share: int, tars: list[str], indexes: list[str], labelled: bool, decoding: dict[str, Any]
) -> tuple[Any, Any]:
    """Decode only the crop: the same pixels as that region of the whole image. On a CPU, `_mirror` mirrors it later."""
    jpegs, digits = _read(tars, indexes, labelled)
    corner = fn.external_source(_InBatches(draws.corner, share), dtype=types.INT32, ndim=1)
    images = fn.decoders.image_slice(jpegs, start=corner, shape=[crop, crop], axis_names="WH", **RGB, **decoding)
    if decoding["device"] == "mixed":
        mirror = fn.external_source(_InBatches(draws.mirror, share), dtype=types.INT32, ndim=0)
        images = fn.flip(images, horizontal=mirror)
    return images, digits


@pipeline_def  # type: ignore[untyped-decorator]  # DALI declares no types
def _view_pipeline(
    crop: int,
    positions: tuple[tuple[float, float], ...],
    tars: list[str],
    indexes: list[str],
    labelled: bool,
    decoding: dict[str, Any],
) -> tuple[Any, Any]:
    jpegs, digits = _read(tars, indexes, labelled)
    images = fn.decoders.image(jpegs, **RGB, **decoding)
    return fn.stack(*(_crop(images, crop, x, y) for x, y in positions)), digits


def _read(tars: list[str], indexes: list[str], labelled: bool) -> Any:
    """Return the JPEGs and the digits of their labels; without labels, the digit 0 for each."""
    found = fn.readers.webdataset(
        paths=tars,
        index_paths=indexes,
        ext=["jpg", "cls"] if labelled else ["jpg"],
        missing_component_behavior="error",
        pad_last_batch=True,
        name="shards",
    )
    if not labelled:
        return found, types.Constant([ord("0")], dtype=types.UINT8, device="cpu")
    jpegs, digits = found  # type: ignore[misc]  # the stub returns one node or none
    return jpegs, fn.pad(digits, fill_value=0)


def _joined(batches: list[Places]) -> Places:
    return np.concatenate([np.arange(0), *batches])


def _mirror(images: Tensor, mirror: NDArray[np.int32]) -> None:
    """Mirror in place the images (N, H, W, 3) whose `mirror` is 1. On a CPU, DALI's flip takes a dozen times as long."""
    for image, mirrored in zip(images.numpy(), mirror, strict=True):
        if mirrored:
            cv2.flip(image, 1, dst=image)


def _sentence(error: RuntimeError) -> str:
    """Return DALI's message without the operators and the stack around it."""
    said = str(error).partition("encountered:")[2] or str(error)
    return said.strip().splitlines()[0].rstrip(".")


def _crop(images: Any, crop: int, x: float, y: float) -> Any:
    return fn.crop(images, crop=(crop, crop), crop_pos_x=x, crop_pos_y=y)


def _class_indices(digits: Tensor) -> Tensor:
    """Return the numbers written in ASCII digits (N, digits), which are padded with zero bytes on the right."""
    value = torch.zeros(len(digits), dtype=torch.int64)
    for column in digits.to("cpu", torch.int64).unbind(dim=1):
        value = torch.where(column > 0, value * 10 + column - ord("0"), value)
    return value
