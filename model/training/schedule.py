"""The learning rates as pure functions of the training so far."""

from collections.abc import Sequence
from typing import NamedTuple

from model.training.config import Share, TrainConfig

CONV1_SLOWED = 0.1
"""Rate of a slowed conv1 divided by its usual rate: .00001 / .0001. [CHM layer-params-145]"""


class Rates(NamedTuple):
    """Learning rates at the start of an epoch."""

    weights: float
    biases: float


class Shares(NamedTuple):
    """Factors on the learning rates of the parts of the network."""

    conv1: float
    """0 if it is frozen."""
    last: float
    """Of fc8 and a bottleneck before it."""
    others: float


def learning_rates(config: TrainConfig, epoch: int, val_errors: Sequence[float]) -> Rates | None:
    """Return the rates of `epoch` (from 0), given the validation errors measured so far; None if training is over.

    `plateau` counts measurements: with `validate_every` above one each stands for that many epochs.
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
    """Return the factors on the rates in `epoch` (from 0), after `step` steps of the whole training."""
    conv1 = config.copied_conv1_rate if fine_tune else 1.0
    others = config.copied_rate if fine_tune else 1.0
    fresh = step >= config.fresh_after_steps and not _reached(config.fresh_until, epoch, config)
    if _reached(config.conv1_frozen_at, epoch, config):
        conv1 = 0.0
    elif _reached(config.conv1_slowed_at, epoch, config):
        conv1 *= CONV1_SLOWED
    return Shares(conv1, last=1.0 if fresh or not fine_tune else others, others=others)


def colour_noise(config: TrainConfig, epoch: int) -> float:
    """Return the standard deviation of the factors of the colour noise in `epoch` (from 0)."""
    return 0.0 if _reached(config.colour_noise_until, epoch, config) else config.colour_noise


def dexp(factor: float, steps: int, progress: float) -> float:
    """Return the fraction of a rate that falls to 1 / `factor` in `steps` equal parts of the training. [CCN2 lr.cu]"""
    return float(factor ** -(int(progress * steps) / (steps - 1)))


def count_plateaus(errors: Sequence[float], patience: int) -> int:
    """Return how often the error had no new minimum for `patience` measurements; the count restarts after each time."""
    plateaus, best, flat = 0, float("inf"), 0
    for error in errors:
        flat = 0 if error < best else flat + 1
        best = min(best, error)
        if flat == patience:
            plateaus, flat = plateaus + 1, 0
    return plateaus


def _reached(share: Share, epoch: int, config: TrainConfig) -> bool:
    return share is not None and epoch >= round(share * config.epochs)
