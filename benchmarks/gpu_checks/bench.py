"""What all checks share: the machine, the sizes and the images, and how a check says what it found."""

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from benchmarks.record import COLOURS
from data_shards.loading.dali import Loader
from data_shards.shard_format import SAMPLES_FILE, index_name
from data_shards.shard_set import ShardSet
from model.network.alexnet import AlexNet
from model.network.config import Initial, NetworkConfig
from model.network.precision import allow_tf32
from model.training.config import Precision, TrainConfig
from model.training.loop import Batch, Trainer

CPU = torch.device("cpu")


class Size(NamedTuple):
    """How large everything is."""

    images_per_class: int
    images_per_shard: int
    side: int
    """Of the stored squares, in pixels."""
    network: NetworkConfig
    batches: tuple[int, ...]
    """Images a step, where speed is measured."""
    learning_batch: int
    """The same where losses and weights are compared."""
    learning_steps: int
    learning_rate: float
    """The same: low, so that differences do not grow."""
    seconds: float
    """That a rate is measured for."""
    repeats: int
    """How often the images are repeated to measure the loader."""


FULL = Size(128, 200, 256, NetworkConfig(), (128, 256, 1024), 32, 50, 0.001, 2.0, 16)
SMALL = Size(6, 50, 72, NetworkConfig(num_classes=20, crop=64, width=1 / 12), (16,), 8, 5, 0.001, 0.1, 1)


class NotRunError(Exception):
    """This machine cannot run the check; the message says why."""


class Found(NamedTuple):
    """What a check found."""

    passed: bool
    said: str
    """One line for the table."""
    values: dict[str, Any]
    """For the JSON file."""


@dataclass(frozen=True)
class Bench:
    """The machine, the sizes and the images."""

    num_gpus: int
    num_threads: int
    directory: Path
    """Of the images, which the first check makes."""
    size: Size = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", FULL if self.num_gpus else SMALL)

    @property
    def device(self) -> torch.device:
        """The first GPU; without one, the CPU."""
        return torch.device("cuda:0") if self.num_gpus else CPU

    @property
    def two(self) -> tuple[torch.device, torch.device]:
        """Two GPUs; without a GPU, the CPU twice.

        Raises:
            NotRunError: there is one GPU.
        """
        if self.num_gpus == 1:
            raise NotRunError("there is one GPU, and this needs two")
        return (torch.device("cuda:0"), torch.device("cuda:1")) if self.num_gpus else (CPU, CPU)

    @cached_property
    def shards(self) -> ShardSet:
        """The images.

        Raises:
            NotRunError: they could not be made.
        """
        if not (self.directory / "train" / SAMPLES_FILE).exists():
            raise NotRunError("there are no images, because they could not be made")
        return ShardSet.open(self.directory / "train")

    @cached_property
    def many(self) -> ShardSet:
        """The same images several times under other names: hard links, so that they stay in memory."""
        folder, tables = self.directory / "many", []
        folder.mkdir(exist_ok=True)
        for turn in range(self.size.repeats):
            tables.append(self.shards.samples.assign(shard=[f"{turn:02d}-{name}" for name in self.shards.samples["shard"]]))
            for tar in self.shards.tars:
                for name in (tar.name, index_name(tar.name)):
                    (folder / f"{turn:02d}-{name}").unlink(missing_ok=True)
                    os.link(tar.with_name(name), folder / f"{turn:02d}-{name}")
        return ShardSet(folder, pd.concat(tables, ignore_index=True), self.shards.classes)

    def loader(self, device: torch.device, batch: int, engine_load: float | None = None, many: bool = False) -> Loader:
        """Return a loader of the images, or of all their repetitions."""
        shards, crop = self.many if many else self.shards, self.size.network.crop
        return Loader(shards, crop, batch, device, self.num_threads, engine_load=engine_load)

    def network(self, **changes: Any) -> AlexNet:
        """Return a network with initial weights that learns from the first steps on."""
        config = self.size.network.model_copy(update=changes)
        return AlexNet(config).initialise(0, Initial(middle_std=0.03))

    def trainer(
        self,
        network: AlexNet,
        precision: Precision = "fp32",
        batch: int | None = None,
        rate: float | None = None,
        **options: Any,
    ) -> Trainer:
        """Return the training of a network that is on its devices."""
        allow_tf32(precision == "tf32")
        torch.backends.cudnn.benchmark = True
        config = TrainConfig(
            batch_size=batch or self.size.learning_batch, precision=precision, learning_rate=rate or self.size.learning_rate
        )
        return Trainer(network, config, COLOURS, **{"num_images": len(self.shards), **options})

    def batches(self, steps: int) -> list[Batch]:
        """Return the first batches of an epoch, decoded on the CPU."""
        return list(islice(self.loader(CPU, self.size.learning_batch).training_epoch(0, 0), steps))

    def synchronise(self) -> None:
        """Wait until all GPUs have finished."""
        for number in range(self.num_gpus):
            torch.cuda.synchronize(number)

    def rate(self, step: Callable[[], int], warm_up: int) -> float:
        """Return images a second of steps that return their numbers of images."""
        for _ in range(warm_up):
            step()
        self.synchronise()
        start, images = perf_counter(), 0
        while perf_counter() - start < self.size.seconds:
            images += sum(step() for _ in range(5))
            self.synchronise()
        return images / (perf_counter() - start)


class Check(NamedTuple):
    """A check and the seconds that it may take."""

    run: Callable[[Bench], Found]
    seconds: float


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def release() -> None:
    """Free the GPU memory that PyTorch keeps for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
