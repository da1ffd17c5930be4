"""The learning rates as pure functions of what has happened so far."""

from collections.abc import Sequence
from typing import NamedTuple

from model.training.config import Share, TrainConfig

CONV1_SLOWED = 0.1
"""Share of the rate that conv1 has left where it is slowed: .00001 of .0001. [CHM layer-params-145]"""


class Rates(NamedTuple):
    """Learning rates at the start of an epoch."""

    weights: float
    biases: float


class Shares(NamedTuple):
    """How much of the rates the parts of the network get."""

    conv1: float
    """0 where it is frozen."""
    last: float
    """fc8, and a bottleneck before it."""
    others: float


def learning_rates(config: TrainConfig, epoch: int, val_errors: Sequence[float]) -> Rates | None:
    """Return the rates of `epoch` (from 0), given the validation errors measured so far; None where training is over.

    `plateau` measures patience in measurements: with `validate_every` above one each stands for that many epochs.
    """
    progress = epoch / config.epochs
    if config.schedule == "plateau":
        drops = count_plateaus(val_errors, config.patience_epochs)
    else:
        drops = sum(_reached(share, epoch, config) for share in config.drop_at)
    if progress >= 1 or (config.schedule == "plateau" and drops > config.num_drops):
        return None
    fallen = dexp(config.dexp_factor, config.dexp_steps, progress) if config.schedule == "dexp" else config.drop_factor**-drops
    biases = {
        "same": fallen,
        "constant": 1.0,
        "dexp": dexp(config.bias_dexp_factor, config.bias_dexp_steps, progress),
    }
    return Rates(config.learning_rate * fallen, config.learning_rate * config.bias_rate * biases[config.bias_schedule])


def shares(config: TrainConfig, epoch: int, step: int, fine_tune: bool) -> Shares:
    """Return what the parts of the network get of the rates in `epoch` (from 0), `step` steps into the training."""
    conv1 = config.copied_conv1_rate if fine_tune else 1.0
    others = config.copied_rate if fine_tune else 1.0
    fresh = step >= config.fresh_after_steps and not _reached(config.fresh_until, epoch, config)
    if _reached(config.conv1_frozen_at, epoch, config):
        conv1 = 0.0
    elif _reached(config.conv1_slowed_at, epoch, config):
        conv1 *= CONV1_SLOWED
    return Shares(conv1, last=1.0 if fresh or not fine_tune else others, others=others)


def colour_noise(config: TrainConfig, epoch: int) -> float:
    """Return the deviation of the colour noise's factors in `epoch` (from 0)."""
    return 0.0 if _reached(config.colour_noise_until, epoch, config) else config.colour_noise


def dexp(factor: float, steps: int, progress: float) -> float:
    """Return what is left of a rate that falls to 1 / `factor` in `steps` equal stretches of the training. [CCN2 lr.cu]"""
    return float(factor ** -(int(progress * steps) / (steps - 1)))


def count_plateaus(errors: Sequence[float], patience: int) -> int:
    """Return how many times the error went `patience` measurements without a new minimum, counting anew after each."""
    plateaus, best, flat = 0, float("inf"), 0
    for error in errors:
        flat = 0 if error < best else flat + 1
        best = min(best, error)
        if flat == patience:
            plateaus, flat = plateaus + 1, 0
    return plateaus


def _reached(share: Share, epoch: int, config: TrainConfig) -> bool:
    return share is not None and epoch >= round(share * config.epochs)
