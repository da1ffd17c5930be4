"""What a person watching a run reads: a line every few seconds, and one where it matters."""

from collections.abc import Callable
from datetime import timedelta
from time import perf_counter

from model.training.records import Record, Sums

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Prints lines such as ` 45%  epoch 9/20  loss 1.432  2% waiting for images  1,523 images/s  0:00:12 left`.

    Errors are top-1. The leading per cent is of the whole run; the time left assumes that all epochs are run.
    """

    def __init__(self, num_epochs: int, images_per_epoch: int, say: Callable[[str], None] = print) -> None:
        self.num_epochs, self.images_per_epoch, self.say = num_epochs, images_per_epoch, say
        self.last_line = self.start = perf_counter()
        self.resumed_at = 0.0

    def begin(self, epoch: int, images: int) -> None:
        """Say where the run begins or goes on: so many images into an epoch (from 0)."""
        self.resumed_at = epoch + images / self.images_per_epoch
        how = f"starting: {self.num_epochs} epochs of {self.images_per_epoch:,} images"
        if self.resumed_at:
            how = f"resumed after epoch {epoch}/{self.num_epochs}" + (f" and {images:,} images" if images else "")
        self.say(f"{self._percent(self.resumed_at)}  {how}")

    def due(self) -> bool:
        """Whether nothing was said for some seconds."""
        return perf_counter() - self.last_line >= SECONDS_BETWEEN_LINES

    def step(self, epoch: int, images: int, sums: Sums) -> None:
        """Say how far the epoch (from 0) is, if it is time."""
        if self.due() and sums.train.num_images:
            text = f"epoch {epoch + 1}/{self.num_epochs}  loss {sums.loss / sums.train.num_images:.3f}"
            self._line(epoch + images / self.images_per_epoch, text, sums)

    def epoch_done(self, record: Record) -> None:
        """Say what the epoch did, unless a line has just been printed and more epochs follow."""
        if not self.due() and record.epoch < self.num_epochs:
            return
        val = f"  val {record.val.top1_error:.1%}" if record.val else ""
        errors = f"top-1 error: train {record.train.top1_error:.1%}{val}"
        self._line(record.epoch, f"epoch {record.epoch}/{self.num_epochs}  loss {record.loss:.3f}  {errors}", record)

    def _line(self, done: float, text: str, times: Sums | Record) -> None:
        now = perf_counter()
        waiting = f"{times.wait_seconds / times.seconds:.0%} waiting for images"
        rate = (done - self.resumed_at) * self.images_per_epoch / (now - self.start)
        left = timedelta(seconds=round((self.num_epochs - done) * self.images_per_epoch / rate)) if rate else "?"
        self.say(f"{self._percent(done)}  {text}  {waiting}  {rate:,.0f} images/s  {left} left")
        self.last_line = now

    def _percent(self, done: float) -> str:
        return f"{done / self.num_epochs:4.0%}"
