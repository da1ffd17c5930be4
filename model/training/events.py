"""The records of a run as event files of TensorBoard, to watch it while it learns.

Called by `tasks.workers.train` with each record.
"""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from model.training.records import Record

SECONDS_BETWEEN_WRITES = 10


class Events:
    """One file per process, in `directory`. TensorBoard discards what a killed process wrote about steps that were repeated."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writer: SummaryWriter | None = None

    def write(self, record: Record) -> None:
        """Write the values of a record at its step."""
        if self.writer is None:
            self.writer = SummaryWriter(self.directory, purge_step=record.step, flush_secs=SECONDS_BETWEEN_WRITES)
        for name, value in _scalars(record).items():
            self.writer.add_scalar(name, value, record.step)

    def close(self) -> None:
        """Flush and close the file, if there is one."""
        if self.writer is not None:
            self.writer.close()


def _scalars(record: Record) -> dict[str, float]:
    scalars = {
        "loss/training": record.loss,
        "top-1 error/training": record.train.top1_error,
        "top-5 error/training": record.train.top5_error,
        "rate/weights": record.learning_rate,
        "rate/biases": record.bias_learning_rate,
        "speed/images per second": record.train.num_images / record.seconds,
        "speed/share of waiting": record.wait_seconds / record.seconds,
        "epoch": record.epoch,
    }
    if record.val is not None:
        scalars |= {"top-1 error/validation": record.val.top1_error, "top-5 error/validation": record.val.top5_error}
    return scalars
