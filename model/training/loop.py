"""Batches in, weights out: one network in training, which can stop and resume after every step.

Called by `tasks.workers.train`, which decides where batches come from. A batch is (images, class indices, places): uint8
(N, H, W, 3) and int64 (N,) on the device, and int64 (N,) on the CPU, the places of the images in the order of the epoch.
On a CPU, a run that stops and resumes ends with the same bits as one that does not stop.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from base.errors import InputError
from base.progress import Progress, Silent
from model.evaluation.error_rates import ErrorCounts, count_errors, true_ranks
from model.network.alexnet import AlexNet
from model.network.inputs import Colours, colour_shifts, subtract_mean
from model.training.checkpoint import Checkpoints
from model.training.config import TrainConfig
from model.training.draws import colour_factors, seed_dropout
from model.training.progress import describe, describe_start
from model.training.records import Record, State, merge, val_errors
from model.training.replicas import Replicas
from model.training.schedule import Rates, learning_rates, shares
from model.training.sgd import make_sgd, set_rates

Batch = tuple[Tensor, Tensor, Tensor]


class StoppedError(Exception):
    """The training was asked to stop and saved its state."""


@dataclass
class Trainer:
    """One network in training: `resume`, then `run`; or `step` alone."""

    network: AlexNet
    config: TrainConfig
    colours: Colours
    num_images: int
    """In one epoch, of all replicas."""
    fine_tune: bool = False
    replicas: Replicas = field(default_factory=Replicas)
    progress: Progress = field(default_factory=Silent)
    checkpoints: Checkpoints | None = None
    """None saves nothing."""
    stop_asked: Callable[[], bool] = lambda: False
    """Whether to save and stop now."""
    record_every: int = 100
    """Steps per record."""
    on_record: Callable[[list[Record]], None] = lambda records: None
    """Called with all records after each new one."""

    def __post_init__(self) -> None:
        self.devices = list(dict.fromkeys(parameter.device for parameter in self.network.parameters()))
        self.device = self.devices[0]
        self.sgd = make_sgd(self.network, self.config)
        self.state = State()
        self.rates = Rates(self.config.learning_rate, self.config.learning_rate * self.config.bias_rate)
        self.epoch_begun: int | None = None
        """The epoch that these are for: `rates`, `model` and `factors`."""
        self.model: nn.Module = self.network
        self.factors: Tensor | None = None
        self.unread: list[tuple[int, Tensor]] = []
        """For each of the last steps the number of images and, still on the device, loss and errors at rank one and five."""

    def resume(self) -> None:
        """Continue from the newest checkpoint, if there is one.

        Raises:
            InputError: no checkpoint can be read.
        """
        if self.checkpoints is not None:
            self.state = self.checkpoints.load(self.network, self.sgd, self.progress.say)
        if not self.replicas.first:
            self.state.sums.forget_images()  # the first replica has those of all
        self.epoch_begun = None
        self.progress.say(describe_start(self.config.epochs, self.num_images, self.state))

    def run(self, epochs: Iterator[Iterable[Batch]], validation: Callable[[], Iterable[Batch]]) -> list[Record]:
        """Train to the end; return all records.

        `epochs` yields the rest of the epoch that `state` is in, then the next ones; `validation` returns batches of views.

        Raises:
            InputError: the loss or a weight is no longer finite, or a checkpoint cannot be written.
            StoppedError: `stop_asked` returned true.
        """
        try:
            while self._next_rates() is not None:
                self.train_epoch(next(epochs))
                self._end_epoch(validation)
        except Exception as error:
            error.add_note(self._where())
            raise
        if self.state.epoch < self.config.epochs:
            self.progress.say(f"no better validation error: training ends after epoch {self.state.epoch}/{self.config.epochs}")
        return self.state.records

    def train_epoch(self, batches: Iterable[Batch]) -> None:
        """Learn from the rest of the epoch that `state` is in; record, report and save when it is time, and save at the end.

        Raises:
            InputError, StoppedError: as `run`.
            RuntimeError: the batches do not add up to the epoch.
        """
        self._begin_epoch()
        start = perf_counter()
        for images, class_indices, places in batches:
            waited = perf_counter() - start
            self.step(images, class_indices, places)
            due = self.replicas.first and self.progress.due()
            if due or self.device.type == "cpu":
                self._read()
            self.state.sums.wait_seconds += waited
            self.state.sums.seconds += perf_counter() - start
            if self.state.images < self.num_images:  # the end of an epoch is reported and recorded after its validation
                if due:
                    self._report(self.state.record(self.rates))
                if self.state.sums.steps >= self.record_every:
                    self._record()
            self._save_or_stop()
            start = perf_counter()
        if self.state.images < self.num_images:
            raise RuntimeError(f"the batches of an epoch held {self.state.images:,} images, expected {self.num_images:,}")
        self._save()

    def step(self, images: Tensor, class_indices: Tensor, places: Tensor) -> None:
        """Update the weights once with this replica's part of a batch, without waiting for the device.

        Raises:
            RuntimeError: the epoch has no images left.
        """
        if self.epoch_begun != self.state.epoch:
            self._begin_epoch()
        state = self.state
        batch_size = min(self.config.batch_size, self.num_images - state.images)  # of all replicas
        if batch_size <= 0:
            raise RuntimeError(f"the batches of an epoch held more than {self.num_images:,} images")
        self._set_rates()
        seed_dropout(self.devices, self.config.seed, state.epoch, int(places[0]) if len(places) else 0)
        inputs = self._inputs(images, places)
        with self._autocast():
            logits = self.model(inputs)
        logits = logits.float()
        loss = F.cross_entropy(logits, class_indices, reduction="sum")
        self.sgd.zero_grad()
        (loss * (self.replicas.num / batch_size)).backward()  # type: ignore[no-untyped-call]  # torch declares no types
        self.sgd.step()
        ranks = true_ranks(logits.detach(), class_indices)
        self.unread.append((len(images), torch.stack((loss.detach().double(), (ranks > 1).sum(), (ranks > 5).sum()))))
        state.step, state.images, state.sums.steps = state.step + 1, state.images + batch_size, state.sums.steps + 1

    def validate(self, batches: Iterable[Batch]) -> ErrorCounts:
        """Return the errors on batches of views (N, 1, H, W, 3); each replica validates its part and gets the sum.

        Raises:
            StoppedError: `stop_asked` returned true.
        """
        self.network.eval()
        counts = ErrorCounts(0, 0, 0)
        with torch.inference_mode(), self._autocast():
            for views, class_indices, _ in batches:
                if self.stop_asked():
                    raise StoppedError("asked to stop while validating; the training is saved and can resume")
                logits = self.network(subtract_mean(views[:, 0], self.colours))
                counts += count_errors(logits.float(), class_indices)
        self.network.train()
        values = self.replicas.sum(counts.num_images, counts.top1_wrong, counts.top5_wrong)
        return ErrorCounts(*map(int, values))

    def _next_rates(self) -> Rates | None:
        """Return the learning rates of the epoch that `state` is in; None if the training is over."""
        return learning_rates(self.config, self.state.epoch, val_errors(self.state.records))

    def _begin_epoch(self) -> None:
        self.rates = self._next_rates() or self.rates
        self._set_rates()  # DDP must know what is frozen
        self.model = self.replicas.wrap(self.network.train())
        self.factors = colour_factors(self.config, self.state.epoch, self.num_images)
        self.epoch_begun = self.state.epoch

    def _set_rates(self) -> None:
        set_rates(self.sgd, self.rates, shares(self.config, self.state.epoch, self.state.step, self.fine_tune))

    def _inputs(self, images: Tensor, places: Tensor) -> Tensor:
        """Subtract the mean and add the colour noise, if there is any."""
        inputs = subtract_mean(images, self.colours)
        if self.factors is None:
            return inputs
        factors = self.factors[places]
        if self.device.type == "cuda":  # from memory that is not pinned, a copy waits until the GPU has nothing left to do
            factors = factors.pin_memory().to(self.device, non_blocking=True)
        inputs = inputs + colour_shifts(self.colours, factors, self.config.colour_noise_along)[:, :, None, None]
        return inputs.div_(1 + self.config.colour_noise) if self.config.shrink_with_noise else inputs

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _read(self) -> None:
        """Fetch the results of the last steps from the device and add them up."""
        if not self.unread:
            return
        sums, state = self.state.sums, self.state
        steps = torch.stack([step for _, step in self.unread]).tolist()
        first = state.step - len(steps) + 1
        for step, (num_images, _), (loss, top1_wrong, top5_wrong) in zip(count(first), self.unread, steps):
            if not math.isfinite(loss):
                raise InputError(f"the loss became {loss} in step {step:,}; lower the learning rate")
            sums.loss += loss
            sums.train += ErrorCounts(num_images, int(top1_wrong), int(top5_wrong))
        self.unread.clear()

    def _gather(self, everywhere: bool) -> None:
        """Add up the totals of the replicas: for all of them, or for the first one while the others start from zero."""
        self._read()
        sums = self.state.sums
        loss, *counts = self.replicas.sum(sums.loss, sums.train.num_images, sums.train.top1_wrong, sums.train.top5_wrong)
        if everywhere or self.replicas.first:
            sums.loss, sums.train = loss, ErrorCounts(*map(int, counts))
        else:
            sums.forget_images()

    def _record(self, val: ErrorCounts | None = None, val_seconds: float = 0.0) -> None:
        self._gather(everywhere=True)
        self.state.close(self.rates, val, val_seconds)
        self.on_record(self.state.records)

    def _report(self, record: Record) -> None:
        """Report the progress of the whole run, an image of each epoch being one unit, with the last validation error."""
        done = self.state.epoch * self.num_images + self.state.images
        total = done if self._next_rates() is None else self.config.epochs * self.num_images  # a plateau ends a run early
        vals = [earlier.val for earlier in self.state.records if earlier.val is not None]
        text = describe(replace(record, val=vals[-1] if vals else None), self.config.epochs)
        self.progress.report(done, total, "images", text, loss=record.loss)

    def _save_or_stop(self) -> None:
        due = self.replicas.first and self.checkpoints is not None and self.checkpoints.due()
        stop, due = self.replicas.any(self.stop_asked(), due)
        if stop or due:
            self._save()
        if stop:
            raise StoppedError("asked to stop; the training is saved and can resume")

    def _save(self) -> None:
        self._gather(everywhere=False)
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            raise InputError(f"weights are not finite after step {self.state.step:,}; lower the learning rate")
        if self.replicas.first and self.checkpoints is not None:
            self.checkpoints.save(self.state, self.network, self.sgd)
        self.replicas.any(False)  # the others wait

    def _end_epoch(self, validation: Callable[[], Iterable[Batch]]) -> None:
        """Validate if it is time to, record and report the epoch, and go to the next."""
        state, epoch = self.state, self.state.epoch + 1
        start, val, val_seconds = perf_counter(), None, 0.0
        if epoch % self.config.validate_every == 0 or epoch == self.config.epochs:
            val = self.validate(validation())
            val_seconds = perf_counter() - start
        self._record(val, val_seconds)
        whole = merge([record for record in state.records if record.epoch == epoch])
        if whole.train.num_images != self.num_images:
            raise RuntimeError(f"epoch {epoch} counted {whole.train.num_images:,} images, expected {self.num_images:,}")
        state.epoch, state.images = epoch, 0
        self._report(whole)

    def _where(self) -> str:
        saved = [] if self.checkpoints is None else self.checkpoints.paths()
        last = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
        state, rate = self.state, self.rates.weights
        return (
            f"in epoch {state.epoch + 1} after {state.images:,} images, step {state.step:,}, at learning rate {rate:g}; {last}"
        )
