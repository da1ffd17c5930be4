"""Batches in, weights out: the loop over epochs, resumable after each, bit-identical on the CPU to one that never stopped.

Called by `tasks.workers.train`, which decides where images come from; here they are iterables of (images, class indices).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor
from torch.nn import functional as F

from model.evaluation.error_rates import ErrorCounts, count_errors
from model.network.alexnet import AlexNet
from model.network.inputs import Colours, add_colour_noise, subtract_mean
from model.training.checkpoint import load_checkpoint, save_checkpoint
from model.training.config import TrainConfig
from model.training.progress import Progress
from model.training.records import EpochRecord, val_errors
from model.training.schedule import learning_rate
from model.training.sgd import make_sgd, set_rate

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Data:
    """Where the images come from."""

    num_images: int
    """In one training epoch."""
    training_epoch: Callable[[int], Iterable[Batch]]
    """Epoch (from 0) to batches of uint8 (N, H, W, 3) and int64 (N,)."""
    validation: Callable[[], Iterable[Batch]]
    """Batches of uint8 views (N, 1, H, W, 3) and int64 (N,)."""


@dataclass(frozen=True)
class Trainer:
    """One network, learning."""

    network: AlexNet
    config: TrainConfig
    colours: Colours
    data: Data
    fine_tune: bool
    checkpoint_path: Path
    progress: Progress

    def run(self) -> list[EpochRecord]:
        """Train to the end, from the checkpoint where there is one; return every epoch's record.

        Raises:
            FloatingPointError: the loss is no longer finite.
        """
        sgd = make_sgd(self.network, self.config, self.fine_tune)
        records = load_checkpoint(self.checkpoint_path, self.network, sgd)
        self.progress.resume(len(records))
        while (rate := learning_rate(self.config, len(records), val_errors(records))) is not None:
            set_rate(sgd, rate)
            records.append(self._epoch(len(records), rate, sgd))
            save_checkpoint(self.checkpoint_path, self.network, sgd, records)
            self.progress.epoch_done(records[-1])
        return records

    def _epoch(self, epoch: int, rate: float, sgd: torch.optim.SGD) -> EpochRecord:
        # Dropout and colour noise follow from (seed, epoch) alone, so that a resumed epoch draws what an unbroken one would.
        torch.manual_seed(self.config.seed * 1_000_003 + epoch)
        self.network.train()
        start = waiting_since = perf_counter()
        waited, loss_sum, counts = 0.0, 0.0, ErrorCounts(0, 0, 0)
        for images, class_indices in self.data.training_epoch(epoch):
            waited += perf_counter() - waiting_since
            loss, batch_counts = self._step(images, class_indices, sgd)
            if not math.isfinite(loss):
                raise FloatingPointError(self._diverged(loss, epoch, counts.num_images, rate))
            loss_sum += loss * len(images)
            counts += batch_counts
            self.progress.step(epoch, counts.num_images, loss)
            waiting_since = perf_counter()
        measured = (epoch + 1) % self.config.validate_every == 0 or epoch + 1 == self.config.epochs
        val = self._validate() if measured else None
        seconds = perf_counter() - start
        return EpochRecord(epoch + 1, rate, loss_sum / counts.num_images, counts, val, seconds, waited)

    def _step(self, images: Tensor, class_indices: Tensor, sgd: torch.optim.SGD) -> tuple[float, ErrorCounts]:
        inputs = subtract_mean(images, self.colours)
        if self.config.colour_noise:
            inputs = add_colour_noise(inputs, self.colours, self.config.colour_noise)
        logits = self.network(inputs)
        loss = F.cross_entropy(logits, class_indices)
        sgd.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types
        sgd.step()
        return loss.item(), count_errors(logits.detach(), class_indices)

    def _validate(self) -> ErrorCounts:
        self.network.eval()
        counts = ErrorCounts(0, 0, 0)
        with torch.inference_mode():
            for views, class_indices in self.data.validation():
                logits = self.network(subtract_mean(views[:, 0], self.colours))
                counts += count_errors(logits, class_indices)
        return counts

    def _diverged(self, loss: float, epoch: int, seen: int, rate: float) -> str:
        saved = (
            f"the last good checkpoint is {self.checkpoint_path}"
            if self.checkpoint_path.exists()
            else "there is no checkpoint yet"
        )
        where = f"in epoch {epoch + 1} after {seen:,} images at learning rate {rate:g}"
        return f"the loss became {loss} {where}; {saved}; lower the learning rate"
