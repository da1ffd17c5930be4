"""What a person watching a run reads: a line every few seconds, and one where it matters."""

from collections.abc import Callable
from datetime import timedelta
from time import perf_counter

from model.training.records import EpochRecord

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Prints lines such as ` 45%  epoch 9/20  loss 1.432  1,523 images/s  0:00:12 left`.

    Errors are top-1. The leading per cent is of the whole run; the time left assumes that all epochs are run.
    """

    def __init__(self, num_epochs: int, images_per_epoch: int, say: Callable[[str], None] = print) -> None:
        self.num_epochs, self.images_per_epoch, self.say = num_epochs, images_per_epoch, say
        self.last_line = self.start = perf_counter()
        self.resumed_at = 0

    def resume(self, epochs_done: int) -> None:
        """Say where the run goes on."""
        self.resumed_at = epochs_done
        if epochs_done:
            self.say(f"{self._percent(epochs_done)}  resumed after epoch {epochs_done}/{self.num_epochs}")

    def step(self, epoch: int, images_seen: int, loss: float) -> None:
        """Say how far the epoch (from 0) is, if nothing was said for some seconds."""
        if perf_counter() - self.last_line < SECONDS_BETWEEN_LINES:
            return
        done = epoch + images_seen / self.images_per_epoch
        self._line(done, f"epoch {epoch + 1}/{self.num_epochs}  loss {loss:.3f}")

    def epoch_done(self, record: EpochRecord) -> None:
        """Say what the epoch did, unless a line has just been printed and more epochs follow."""
        if perf_counter() - self.last_line < SECONDS_BETWEEN_LINES and record.epoch < self.num_epochs:
            return
        val = f"  val {record.val.top1_error:.1%}" if record.val else ""
        waiting = f"  {record.wait_seconds / record.seconds:.0%} waiting for images"
        errors = f"top-1 error: train {record.train.top1_error:.1%}{val}"
        self._line(record.epoch, f"epoch {record.epoch}/{self.num_epochs}  loss {record.loss:.3f}  {errors}{waiting}")

    def _line(self, done: float, text: str) -> None:
        now = perf_counter()
        rate = (done - self.resumed_at) * self.images_per_epoch / (now - self.start)
        left = timedelta(seconds=round((self.num_epochs - done) * self.images_per_epoch / rate)) if rate else "?"
        self.say(f"{self._percent(done)}  {text}  {rate:,.0f} images/s  {left} left")
        self.last_line = now

    def _percent(self, done: float) -> str:
        return f"{done / self.num_epochs:4.0%}"
