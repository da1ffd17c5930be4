"""The random numbers of an epoch and of a step. Each follows from its place in the training.

So a resumed run draws what an unbroken one does, and no generator's state is saved. Called by `model.training.loop`.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from model.training.config import TrainConfig
from model.training.schedule import colour_noise


def colour_factors(config: TrainConfig, epoch: int, num_images: int) -> Tensor | None:
    """Return the factors of the colour components (num_images, 3) by place in the epoch (from 0); None without noise."""
    noise = colour_noise(config, epoch)
    if not noise:
        return None
    generator = torch.Generator().manual_seed(_mix(config.seed, epoch))
    return torch.randn(num_images, 3, generator=generator) * noise


def seed_dropout(devices: Iterable[torch.device], seed: int, epoch: int, place: int) -> None:
    """Seed the generators that dropout uses, for the step whose first image has this place in the epoch."""
    for number, device in enumerate(devices):  # a different mask on each: the layers of the two towers have the same size
        generators = [torch.default_generator] if device.type == "cpu" else torch.cuda.default_generators
        generators[device.index or 0].manual_seed(_mix(seed, epoch, place, number))


def _mix(*numbers: int) -> int:
    """Make one seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
