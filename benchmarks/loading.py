"""Our loader against the usual one, webdataset and Pillow in torch's DataLoader: `python -m benchmarks.loading`.

Both read the same 256 × 256 shards from the page cache and yield batches of random 224 × 224 crops, mirrored at random. A rate
is measured from the first batch of an epoch to its end, so that starting up is not counted; it is printed. Each side gains the
batches that are ready by then: up to two of ours, up to four of theirs.
"""

import argparse
import io
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import webdataset as wds
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from base.errors import InputError
from benchmarks.photographs import PHOTOGRAPHS, Photographs
from benchmarks.record import COLOURS, alternate, record, run_as
from data_shards.datasets.dataset import Dataset
from data_shards.datasets.synthetic import Synthetic
from data_shards.decoding import decode_jpeg
from data_shards.listing import write_lists
from data_shards.loading.dali import Loader
from data_shards.planning import ShardConfig, plan_shards
from data_shards.shard_set import ShardSet
from data_shards.writing import write_shard
from model.network.inputs import subtract_mean

WORKERS = 2
"""Threads on our side, processes on theirs."""
BATCH = 128
CROP = 224
SIDE = 256


def choose_images(source: Path | None, num_images: int) -> tuple[Dataset, str]:
    """Return photographs if there are any, else synthetic images, and their name in the results."""
    source = source or (PHOTOGRAPHS if PHOTOGRAPHS.exists() else None)
    if source is None:
        return Synthetic(-(-num_images // 20), 1, side=SIDE), "synthetic images"
    return Photographs(source, num_images), "photographs"


def make_shards(dataset: Dataset, directory: Path) -> ShardSet:
    """Write the training split with the project's own writer; return the shards, whose bytes are then in the page cache."""
    config = ShardConfig(storage=f"square{SIDE}", samples_per_shard=250)
    shards, work = directory / "train", directory / "train.work"
    shards.mkdir()
    work.mkdir()
    plan = plan_shards(dataset, "train", config, work)
    with ProcessPoolExecutor(WORKERS) as pool:
        for written in pool.map(partial(write_shard, dataset, config=config, directory=shards, work=work), plan):
            if written.bad_images:
                raise InputError(f"an image cannot be decoded: {written.bad_images[0]}; remove it")
    write_lists(dataset, shards, work)
    return ShardSet.open(shards)


def our_batches(shards: ShardSet, epochs: Iterator[int]) -> Iterator[Tensor]:
    """Yield one epoch of the loader that training uses, uint8 (N, H, W, 3)."""
    loader = Loader(shards, CROP, BATCH, torch.device("cpu"), WORKERS)
    return (images for images, _, _ in loader.training_epoch(0, next(epochs)))


def our_float_batches(shards: ShardSet, epochs: Iterator[int]) -> Iterator[Tensor]:
    """Yield the network's input: float32 (N, 3, H, W), channels-last in memory, mean subtracted."""
    return (subtract_mean(images, COLOURS) for images in our_batches(shards, epochs))


def their_batches(shards: ShardSet, transform: Callable[[NDArray[np.uint8]], Tensor]) -> Iterator[Tensor]:
    """Yield batches as in webdataset's documentation: shuffled, decoded, cropped and batched in the workers."""
    dataset = (
        wds.WebDataset([str(tar) for tar in shards.tars], shardshuffle=100)
        .shuffle(1000)
        .to_tuple("jpg", "cls")
        .map_tuple(partial(_pillow_crop, transform=transform), int)
        .batched(BATCH, collation_fn=_collate)
    )
    return (images for images, _ in DataLoader(dataset, batch_size=None, num_workers=WORKERS))


def keep_bytes(pixels: NDArray[np.uint8]) -> Tensor:
    """Return the pixels unchanged: uint8 (H, W, 3)."""
    return torch.from_numpy(pixels)


def to_normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """Return float32 (3, H, W), mean subtracted: torchvision's `ToTensor` and `Normalize` without their divisions."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().to(torch.float32).sub_(MEAN)


MEAN = torch.tensor(COLOURS.mean).view(3, 1, 1)


def _pillow_crop(jpeg: bytes, transform: Callable[[NDArray[np.uint8]], Tensor]) -> Tensor:
    with Image.open(io.BytesIO(jpeg)) as opened:
        image = opened.convert("RGB")
    x, y = random.randint(0, image.width - CROP), random.randint(0, image.height - CROP)
    image = image.crop((x, y, x + CROP, y + CROP))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return transform(np.array(image))


def _collate(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    images, class_indices = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(class_indices)


def epoch_rate(batches: Callable[[], Iterable[Tensor]], num_images: int) -> float:
    """Read one epoch; return images a second, from the first batch to the last."""
    created = perf_counter()
    iterator = iter(batches())
    first = len(next(iterator))
    start = perf_counter()
    rest = sum(len(images) for images in iterator)
    if first + rest != num_images:
        raise RuntimeError(f"an epoch gave {first + rest:,} images but the shards hold {num_images:,}")
    print(f"  first batch after {start - created:.2f} s", end=";", flush=True)
    return rest / (perf_counter() - start)


def bare_rate(jpegs: list[bytes]) -> float:
    """Decode whole images with as many threads as the loader has, and nothing else; return images a second."""
    start = perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        decoded = sum(pool.map(_num_decoded, (jpegs[n::16] for n in range(16))))
    return decoded / (perf_counter() - start)


def _num_decoded(jpegs: list[bytes]) -> int:
    return sum(len(decode_jpeg(jpeg)) == SIDE for jpeg in jpegs)


def stored_jpegs(shards: ShardSet) -> list[bytes]:
    """Return every image's bytes."""
    tars = {tar.name: tar.read_bytes() for tar in shards.tars}
    rows = shards.samples
    return [tars[tar][at : at + size] for tar, at, size in zip(rows["shard"], rows["offset"], rows["size"], strict=True)]


def main() -> None:
    """Write the shards, measure and record."""
    arguments = _arguments()
    run_as("train")
    dataset, shown = choose_images(arguments.images, arguments.num_images)
    with tempfile.TemporaryDirectory(prefix="benchmark-loading-") as directory:
        print(f"writing {SIDE} × {SIDE} shards of {arguments.num_images:,} {shown}", flush=True)
        measure(make_shards(dataset, Path(directory)), shown, arguments.rounds)


def measure(shards: ShardSet, shown: str, rounds: int) -> None:
    """Measure and record the three comparisons."""
    epochs = count()
    unit = f"images/s of {len(shards):,} {shown}, {WORKERS} threads or workers"
    ours = partial(epoch_rate, partial(our_batches, shards, epochs), len(shards))
    ours_float = partial(epoch_rate, partial(our_float_batches, shards, epochs), len(shards))
    theirs = partial(epoch_rate, partial(their_batches, shards, keep_bytes), len(shards))
    theirs_float = partial(epoch_rate, partial(their_batches, shards, to_normalised), len(shards))
    bare = partial(bare_rate, stored_jpegs(shards))

    rates = alternate({"ours": ours, "webdataset": theirs}, rounds)
    record("loading", "uint8 batches against webdataset and Pillow", rates["ours"], rates["webdataset"], 1.5, unit)
    rates = alternate({"ours": ours_float, "webdataset": theirs_float}, rounds)
    record("loading", "float32 batches against webdataset and Pillow", rates["ours"], rates["webdataset"], 2.5, unit)
    rates = alternate({"ours": ours, "bare": bare}, rounds)
    record("loading", "uint8 batches against bare simplejpeg decoding", rates["ours"], rates["bare"], 0.6, unit)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help=f"a tar or a folder of photographs, instead of {PHOTOGRAPHS}")
    parser.add_argument("--num-images", type=int, default=4000, help="how many to shard, repeated if there are fewer")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each side to take the median of")
    return parser.parse_args()


if __name__ == "__main__":
    main()
