"""What a person reads while a network learns. `model.training.loop` hands it to `base.progress`."""

from model.training.records import Record, State


def describe_start(num_epochs: int, num_images: int, state: State) -> str:
    """Return `starting: 20 epochs of 1,000 images`, or after how much the run resumes."""
    if not state.step:
        return f"starting: {num_epochs} epochs of {num_images:,} images"
    return f"resumed after epoch {state.epoch}/{num_epochs}" + (f" and {state.images:,} images" if state.images else "")


def describe(record: Record, num_epochs: int) -> str:
    """Return `epoch 9/20  loss 1.432  top-1 error: train 40.0%  val 30.0%  2% waiting for images`."""
    val = f"  val {record.val.top1_error:.1%}" if record.val else ""
    errors = f"top-1 error: train {record.train.top1_error:.1%}{val}"
    waiting = f"{record.wait_seconds / record.seconds:.0%} waiting for images"
    return f"epoch {record.epoch}/{num_epochs}  loss {record.loss:.3f}  {errors}  {waiting}"
