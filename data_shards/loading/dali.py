"""Shards to batches through NVIDIA DALI, on the GPU or on its CPU backend: the one module that imports DALI.

Called by the workers in `tasks.workers`. A batch is (images, class indices): uint8 on the device, nothing subtracted yet.
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

from data_shards.loading.order import Draws, Piece, batch_spans, draw_crops, epoch_order, stored_order, take, write_pieces
from data_shards.shard_set import ShardSet

Batch = tuple[Tensor, Tensor]

ENGINE_THREADS = 30
"""(ours) As how many threads a GPU's JPEG engine counts: DALI's own load of .65 is then that of 16. Not measured yet."""

RGB: dict[str, Any] = {"output_type": types.RGB, "adjust_orientation": False, "jpeg_fancy_upsampling": True}
"""Without the rotation that EXIF may ask for, chroma upsampled alike on the CPU and the GPU."""

CORNERS_AND_CENTRE = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))
"""[K12 §4.1] (x, y) as fractions of the free play; each is seen mirrored too."""


class _Order(NamedTuple):
    """A replica's part of an epoch, or of what is left of it, written down for DALI."""

    directory: Path
    """Of the index files, of no use once DALI has read them."""
    pieces: list[Piece]
    draws: Draws
    spans: list[range]


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
    """Which replica's part of each batch this is, of how many."""
    engine_load: float | None = None
    """Share of the images that a GPU's JPEG engine decodes; where not given, the more the fewer threads there are."""

    def __post_init__(self) -> None:
        # DALI crashes on a region that does not lie in its image.
        if self.crop > self.shards.side:
            raise ValueError(
                f"crops of {self.crop} px do not fit the images of {self.shards.side} px in {self.shards.directory}"
            )

        if self.batch_size < self.num_ranks:
            raise ValueError(f"a batch of {self.batch_size} cannot be shared by {self.num_ranks} replicas; enlarge the batch")

    def spans(self, start: int = 0) -> list[range]:
        """Return which places of the epoch, from `start` on, each batch of `training_epoch` holds."""
        return batch_spans(len(self.shards), self.batch_size, start, self.rank, self.num_ranks)

    def training_epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield every image from `start` on once, shuffled, cropped and mirrored at random from (seed, epoch).

        (N, crop, crop, 3), (N,). Of several replicas each yields its part of each batch, which may be empty in the last.
        """
        with tempfile.TemporaryDirectory(prefix="epoch-order-") as directory:
            yield from self._training_batches(self._write_order(seed, epoch, start, Path(directory)))

    def training_epochs(self, seed: int, directory: Path, epoch: int = 0, start: int = 0) -> Generator[Iterator[Batch]]:
        """Yield one epoch after another without end, from this one's place `start` on, each as `training_epoch` gives it.

        The order of the next is written into `directory` while one is read. What a killed run left there is removed.
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

    def _write_order(self, seed: int, epoch: int, start: int, directory: Path) -> _Order:
        spans = self.spans(start)
        play = self.shards.side - self.crop
        draws = draw_crops(len(self.shards), play, seed, epoch, self.images_per_draw).at(spans)
        directory.mkdir(parents=True, exist_ok=True)
        pieces = write_pieces(take(epoch_order(self.shards, seed, epoch), spans), directory)
        return _Order(directory, pieces, draws, spans)

    def _training_batches(self, order: _Order) -> Iterator[Batch]:
        if order.pieces:
            (whole_batch,) = batch_spans(self.batch_size, self.batch_size, 0, self.rank, self.num_ranks)
            share = len(whole_batch)
            pipeline = _training_pipeline(self.crop, order.draws, share, **self._options(order.pieces, share))
            seen = 0
            for images, class_indices in self._batches(pipeline, order.directory, sum(map(len, order.spans))):
                if self.device.type == "cpu":
                    _mirror(images, order.draws.mirror[seen : seen + len(images)])
                seen += len(images)
                yield images, class_indices
        if order.spans and not order.spans[-1]:
            empty = torch.empty(0, self.crop, self.crop, 3, dtype=torch.uint8, device=self.device)
            yield empty, torch.empty(0, dtype=torch.int64, device=self.device)

    def views(self, num_views: int) -> Iterator[Batch]:
        """Yield every image once, in the order of the tars, as fixed views: (N, views, crop, crop, 3), (N,).

        One view is the centre. Ten are the four corners and the centre, then their reflections. [K12 §4.1]
        Of several replicas each yields its part of the set. Where it has no labels, every class index is 0 and means nothing.
        """
        places = CORNERS_AND_CENTRE if num_views == 10 else CORNERS_AND_CENTRE[-1:]
        spans = batch_spans(len(self.shards), len(self.shards), 0, self.rank, self.num_ranks)
        with tempfile.TemporaryDirectory(prefix="stored-order-") as directory:
            pieces = write_pieces(take(stored_order(self.shards), spans), Path(directory))
            if not pieces:
                return
            pipeline = _view_pipeline(self.crop, places, **self._options(pieces, self.batch_size))
            for views, class_indices in self._batches(pipeline, Path(directory), len(spans[0])):
                mirrored = (views, views.flip(3)) if num_views == 10 else (views,)
                yield torch.cat(mirrored, dim=1), class_indices

    def _options(self, pieces: list[Piece], batch_size: int) -> dict[str, Any]:
        on_gpu = self.device.type == "cuda"
        return {
            "tars": [str(piece.tar) for piece in pieces],
            "indexes": [str(piece.index_file) for piece in pieces],
            "labelled": self.shards.labelled,
            "decoding": {
                "device": "mixed" if on_gpu else "cpu",
                "hw_decoder_load": self.engine_load or ENGINE_THREADS / (ENGINE_THREADS + self.num_threads),
            },
            "batch_size": batch_size,
            "num_threads": self.num_threads,
            "device_id": (self.device.index or 0) if on_gpu else None,
        }

    def _batches(self, pipeline: Any, index_files: Path, expected: int) -> Iterator[Batch]:
        """Yield (images, class indices), the last batch cut to what is left; assert that nothing is lost or repeated."""
        seen = 0
        for batch in self._iterate(pipeline, index_files):
            seen += len(batch["images"])
            yield batch["images"], self._to_device(_class_indices(batch["digits"]))
        if seen != expected:
            raise RuntimeError(f"the loader gave {seen:,} images of {self.shards.directory}, expected {expected:,}")

    def _iterate(self, pipeline: Any, index_files: Path) -> Iterator[dict[str, Tensor]]:
        try:
            iterator = DALIGenericIterator(
                [pipeline],
                ["images", "digits"],
                reader_name="shards",
                last_batch_policy=LastBatchPolicy.PARTIAL,
                auto_reset=False,
            )
            shutil.rmtree(index_files)  # DALI has read them; a run that is killed leaves none
            for (batch,) in iterator:
                yield batch
        except RuntimeError as error:  # DALI has no other
            raise OSError(
                f"cannot read the images of {self.shards.directory} ({_sentence(error)}); "
                f"if python -m flows.verify finds that they were changed since they were written, delete it to shard again"
            ) from error

    def _to_device(self, values: Tensor) -> Tensor:
        """Copy from pinned memory: from any other the host waits until a GPU has done all that it was given."""
        return values if self.device.type == "cpu" else values.pin_memory().to(self.device, non_blocking=True)


class _InBatches:
    """Hands DALI one batch of an epoch's draws after another."""

    def __init__(self, draws: NDArray[np.int32], batch_size: int) -> None:
        # DALI fills the last batch up and prefetches beyond it; what it adds is cut off or never seen.
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
    """Only the crop is decoded; its pixels are those of the same region of the whole image. The CPU mirrors it later."""
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
    places: tuple[tuple[float, float], ...],
    tars: list[str],
    indexes: list[str],
    labelled: bool,
    decoding: dict[str, Any],
) -> tuple[Any, Any]:
    jpegs, digits = _read(tars, indexes, labelled)
    images = fn.decoders.image(jpegs, **RGB, **decoding)
    return fn.stack(*(_crop(images, crop, x, y) for x, y in places)), digits


def _read(tars: list[str], indexes: list[str], labelled: bool) -> Any:
    """The JPEGs and the digits of their labels; a set without labels has the digit 0 everywhere."""
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


def _mirror(images: Tensor, mirror: NDArray[np.int32]) -> None:
    """Mirror the images (N, H, W, 3) where `mirror` is 1, in place. DALI's flip takes a dozen times as long on a CPU."""
    for image, mirrored in zip(images.numpy(), mirror, strict=True):
        if mirrored:
            cv2.flip(image, 1, dst=image)


def _sentence(error: RuntimeError) -> str:
    """What DALI says of an error, without the operators and stack around it."""
    said = str(error).partition("encountered:")[2] or str(error)
    return said.strip().splitlines()[0].rstrip(".")


def _crop(images: Any, crop: int, x: float, y: float) -> Any:
    return fn.crop(images, crop=(crop, crop), crop_pos_x=x, crop_pos_y=y)


def _class_indices(digits: Tensor) -> Tensor:
    """The numbers written in ASCII in (N, digits), padded with zero bytes on the right."""
    value = torch.zeros(len(digits), dtype=torch.int64)
    for column in digits.to("cpu", torch.int64).unbind(dim=1):
        value = torch.where(column > 0, value * 10 + column - ord("0"), value)
    return value
