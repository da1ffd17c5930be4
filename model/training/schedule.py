"""The learning rate as a pure function of what has happened so far."""

from collections.abc import Sequence

from model.training.config import TrainConfig


def learning_rate(config: TrainConfig, epoch: int, val_errors: Sequence[float]) -> float | None:
    """Return the rate of `epoch` (from 0), given the validation errors measured so far; None where training is over.

    `plateau` measures patience in measurements: with `validate_every` above one each stands for that many epochs.
    """
    if epoch >= config.epochs:
        return None
    if config.schedule == "steps":
        drops = sum(epoch >= round(share * config.epochs) for share in config.drop_at)
    else:
        drops = count_plateaus(val_errors, config.patience_epochs)
        if drops > config.num_drops:
            return None
    return float(config.learning_rate * config.drop_factor**-drops)


def count_plateaus(errors: Sequence[float], patience: int) -> int:
    """Return how many times the error went `patience` measurements without a new minimum, counting anew after each."""
    plateaus, best, flat = 0, float("inf"), 0
    for error in errors:
        flat = 0 if error < best else flat + 1
        best = min(best, error)
        if flat == patience:
            plateaus, flat = plateaus + 1, 0
    return plateaus
