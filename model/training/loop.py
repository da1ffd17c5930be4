"""Batches in, weights out: the loop over steps, resumable after each, bit-identical on the CPU to one that never stopped.

Called by `tasks.workers.train`, which decides where images come from; here they are iterables of (images, class indices).
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.evaluation.error_rates import ErrorCounts, count_errors, true_ranks
from model.network.alexnet import AlexNet
from model.network.inputs import Colours, colour_shifts, subtract_mean
from model.training.checkpoint import Checkpoints
from model.training.config import TrainConfig
from model.training.progress import Progress
from model.training.records import Record, State, merge, val_errors
from model.training.replicas import Replicas
from model.training.schedule import Rates, colour_noise, learning_rates, shares
from model.training.sgd import make_sgd, set_rates

Batch = tuple[Tensor, Tensor]


class StoppedError(Exception):
    """The training was asked to stop, and has saved how far it is."""


@dataclass(frozen=True)
class Data:
    """Where the images come from."""

    num_images: int
    """In one training epoch, of all replicas."""
    spans: Callable[[int], list[range]]
    """The place to go on from (from 0) to the places in the epoch that each batch holds."""
    training_epochs: Callable[[int, int], Generator[Iterator[Batch]]]
    """Epoch and place to go on from (from 0) to that epoch and all after it: batches of uint8 (N, H, W, 3) and int64 (N,)."""
    validation: Callable[[], Iterable[Batch]]
    """Batches of uint8 views (N, 1, H, W, 3) and int64 (N,): this replica's part."""


@dataclass(frozen=True)
class Saving:
    """When the training saves how far it is, and when it leaves."""

    checkpoints: Checkpoints
    minutes: float = 10.0
    """Between two checkpoints; there is one after each epoch too."""
    stop_asked: Callable[[], bool] = lambda: False
    """Whether to save and leave now."""
    saved: Callable[[list[Record]], None] = lambda records: None
    """Hears of each checkpoint."""


@dataclass
class Trainer:
    """One network, learning."""

    network: AlexNet
    config: TrainConfig
    colours: Colours
    data: Data
    fine_tune: bool
    saving: Saving
    progress: Progress
    replicas: Replicas = field(default_factory=Replicas)
    record_every: int = 100
    """Steps a record."""
    recorded: Callable[[Record], None] = lambda record: None
    """Hears of each record."""

    def __post_init__(self) -> None:
        self.devices = list(dict.fromkeys(parameter.device for parameter in self.network.parameters()))
        self.device = self.devices[0]
        self.sgd = make_sgd(self.network, self.config)
        self.state = State()
        self.rates: Rates | None = None
        self.unread: list[tuple[int, Tensor]] = []
        """What the last steps did: images, and still on the device their loss, wrong at rank one and at rank five."""
        self.last_saved = perf_counter()

    def run(self) -> list[Record]:
        """Train to the end, from the last checkpoint where there is one; return what was recorded.

        Raises:
            FloatingPointError: the loss or a weight is no longer finite.
            StoppedError: it was asked to stop.
        """
        self.state = self.saving.checkpoints.load(self.network, self.sgd, self.progress.say)
        if not self.replicas.first:
            self.state.sums.forget_images()  # the first one has them, of all replicas
        self.progress.begin(self.state.epoch, self.state.images)
        try:
            with closing(self.data.training_epochs(self.state.epoch, self.state.images)) as epochs:
                while (rates := learning_rates(self.config, self.state.epoch, val_errors(self.state.records))) is not None:
                    self._epoch(rates, next(epochs))
        except Exception as error:
            error.add_note(self._where())
            raise
        return self.state.records

    def _epoch(self, rates: Rates, batches: Iterator[Batch]) -> None:
        state, self.rates = self.state, rates
        set_rates(self.sgd, rates, shares(self.config, state.epoch, state.step, self.fine_tune))  # DDP must know what is frozen
        model = self.replicas.wrap(self.network.train())
        factors = self._colour_factors()
        for span in self.data.spans(state.images):
            begun = perf_counter()
            images, class_indices = next(batches)
            state.sums.wait_seconds += perf_counter() - begun
            set_rates(self.sgd, rates, shares(self.config, state.epoch, state.step, self.fine_tune))
            self._step(model, images, class_indices, span, factors)
            state.sums.seconds += perf_counter() - begun
            self.progress.step(state.epoch, state.images, state.sums)
            if state.sums.steps == self.record_every and state.images < self.data.num_images:
                self._record(rates)
            self._save_or_leave()
        if next(batches, None) is not None:  # lets the loader count, too
            raise RuntimeError("the loader gave more batches than the epoch has")
        self._save()
        val, val_seconds = self._validate()
        self._record(rates, val, val_seconds)
        state.epoch, state.images = state.epoch + 1, 0
        self.progress.epoch_done(merge([record for record in state.records if record.epoch == state.epoch]))

    def _step(self, model: nn.Module, images: Tensor, class_indices: Tensor, span: range, factors: Tensor | None) -> None:
        """Update the weights once, and note what is known of the batch without waiting for the device."""
        state = self.state
        self._seed_dropout(span.start)
        inputs = self._inputs(images, None if factors is None else factors[span.start : span.stop])
        batch_size = min(self.config.batch_size, self.data.num_images - state.images)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = model(inputs)
        logits = logits.float()
        loss = F.cross_entropy(logits, class_indices, reduction="sum")
        self.sgd.zero_grad()
        (loss * (self.replicas.num / batch_size)).backward()  # type: ignore[no-untyped-call]  # torch declares no types
        self.sgd.step()
        ranks = true_ranks(logits.detach(), class_indices)
        self.unread.append((len(images), torch.stack((loss.detach().double(), (ranks > 1).sum(), (ranks > 5).sum()))))
        state.step, state.images, state.sums.steps = state.step + 1, state.images + batch_size, state.sums.steps + 1
        if self.device.type == "cpu" or self.progress.due():
            self._read()

    def _seed_dropout(self, place: int) -> None:
        """Dropout follows from the place in the epoch, so that a run taken up again draws what an unbroken one would."""
        for number, device in enumerate(self.devices):  # each another mask: the towers' layers are of one size
            generators = [torch.default_generator] if device.type == "cpu" else torch.cuda.default_generators
            generators[device.index or 0].manual_seed(_mix(self.config.seed, self.state.epoch, place, number))

    def _inputs(self, images: Tensor, factors: Tensor | None) -> Tensor:
        """Subtract the mean; where there is colour noise, add it."""
        inputs = subtract_mean(images, self.colours)
        if factors is None:
            return inputs
        inputs = inputs + colour_shifts(self.colours, factors, self.config.colour_noise_along)[:, :, None, None]
        return inputs.div_(1 + self.config.colour_noise) if self.config.shrink_with_noise else inputs

    def _colour_factors(self) -> Tensor | None:
        """Every image's factors of the colour components (N, 3), by its place in the epoch; None where there is no noise."""
        noise = colour_noise(self.config, self.state.epoch)
        if not noise:
            return None
        generator = torch.Generator().manual_seed(_mix(self.config.seed, self.state.epoch))
        return (torch.randn(self.data.num_images, 3, generator=generator) * noise).to(self.device)

    def _read(self) -> None:
        """Fetch what the last steps did from the device, and add it up."""
        if not self.unread:
            return
        sums, state = self.state.sums, self.state
        steps = torch.stack([step for _, step in self.unread]).tolist()
        first = state.step - len(steps) + 1
        for step, (num_images, _), (loss, top1_wrong, top5_wrong) in zip(count(first), self.unread, steps):
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss became {loss} in step {step:,}; lower the learning rate")
            sums.loss += loss
            sums.train += ErrorCounts(num_images, int(top1_wrong), int(top5_wrong))
        self.unread.clear()

    def _gather(self, everywhere: bool) -> None:
        """Add up what the replicas have, for all of them or for the first alone; then the others begin anew."""
        self._read()
        sums = self.state.sums
        loss, *counts = self.replicas.sum(sums.loss, sums.train.num_images, sums.train.top1_wrong, sums.train.top5_wrong)
        if everywhere or self.replicas.first:
            sums.loss, sums.train = loss, ErrorCounts(*map(int, counts))
        else:
            sums.forget_images()

    def _record(self, rates: Rates, val: ErrorCounts | None = None, val_seconds: float = 0.0) -> None:
        self._gather(everywhere=True)
        self.recorded(self.state.close(rates, val, val_seconds))

    def _save_or_leave(self) -> None:
        due = perf_counter() - self.last_saved >= 60 * self.saving.minutes
        stop, due = self.replicas.any(self.saving.stop_asked(), due)
        if stop or due:
            self._save()
        if stop:
            raise StoppedError("asked to stop; the training is saved and goes on from here")

    def _save(self) -> None:
        self._gather(everywhere=False)
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            raise FloatingPointError(f"weights are not finite after step {self.state.step:,}; lower the learning rate")
        if self.replicas.first:
            self.saving.checkpoints.save(self.state, self.network, self.sgd)
            self.saving.saved(self.state.records)
        self.replicas.any(False)  # the others wait
        self.last_saved = perf_counter()

    def _validate(self) -> tuple[ErrorCounts | None, float]:
        """Return the errors on the validation images, if it is time for them, and the seconds it took."""
        epoch = self.state.epoch + 1
        if epoch % self.config.validate_every and epoch != self.config.epochs:
            return None, 0.0
        begun = perf_counter()
        self.network.eval()
        counts = ErrorCounts(0, 0, 0)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            for views, class_indices in self.data.validation():
                if self.saving.stop_asked():
                    raise StoppedError("asked to stop while validating; the training is saved and goes on from here")
                logits = self.network(subtract_mean(views[:, 0], self.colours))
                counts += count_errors(logits.float(), class_indices)
        values = self.replicas.sum(counts.num_images, counts.top1_wrong, counts.top5_wrong)
        return ErrorCounts(*map(int, values)), perf_counter() - begun

    def _where(self) -> str:
        saved = self.saving.checkpoints.paths()
        last = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
        state, rate = self.state, self.rates.weights if self.rates else self.config.learning_rate
        return (
            f"in epoch {state.epoch + 1} after {state.images:,} images, step {state.step:,}, at learning rate {rate:g}; {last}"
        )


def _mix(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
