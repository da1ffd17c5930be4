"""Our training step against the textbook's, at full size: `python -m benchmarks.training`.

Ours is the two-tower network from the loader's bytes to the updated weights, as `model.training.loop` runs it. The textbook's
is the same network as torch's building blocks suggest it, and it finds its images already in float32. Both take steps in turn.
"""

import argparse
from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.record import COLOURS, alternate, record
from model.evaluation.error_rates import count_errors
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import colour_shifts, subtract_mean
from model.training.config import TrainConfig
from model.training.schedule import Rates, Shares
from model.training.sgd import make_sgd, set_rates

CLASSES = 1000
CROP = 224
THREADS = 2

Step = Callable[[], float]


def textbook_network() -> nn.Sequential:
    """Return logits of NCHW images: grouped convolutions for the two towers, and torch's own layers throughout."""
    norm = partial(nn.LocalResponseNorm, size=5, alpha=1e-4, beta=0.75, k=2.0)
    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, stride=4, padding=2), nn.ReLU(inplace=True), norm(), nn.MaxPool2d(3, 2)),  # (N, 96, 27, 27)
        *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), norm(), nn.MaxPool2d(3, 2)),  # (N, 256, 13, 13)
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),  # (N, 256, 6, 6)
        *(nn.Flatten(), nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True)),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, CLASSES)),
    )


def textbook_step(batch: int, device: torch.device) -> Step:
    """Return a step of the textbook network from float32 (N, 3, H, W) to updated weights; it returns the loss."""
    network = textbook_network().to(device)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images = torch.rand(batch, 3, CROP, CROP, device=device)
    class_indices = torch.randint(CLASSES, (batch,), device=device)

    def step() -> float:
        loss = F.cross_entropy(network(images), class_indices)
        sgd.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types
        sgd.step()
        return loss.item()

    return step


def our_step(batch: int, device: torch.device) -> Step:
    """Return what `Trainer` does with a batch of uint8 (N, H, W, 3) from the loader; it returns the loss."""
    config = TrainConfig()
    network = AlexNet(NetworkConfig(num_classes=CLASSES, crop=CROP)).initialise(config.seed).place(device, device)
    sgd = make_sgd(network, config)
    set_rates(sgd, Rates(0.01, 0.01), Shares(1, 1, 1))
    images = torch.randint(256, (batch, CROP, CROP, 3), dtype=torch.uint8, device=device)
    class_indices = torch.randint(CLASSES, (batch,), device=device)

    def step() -> float:
        shifts = colour_shifts(COLOURS, torch.randn(batch, 3, device=device) * config.colour_noise, "eigenvalues")
        inputs = subtract_mean(images, COLOURS) + shifts[:, :, None, None]
        logits = network(inputs)
        loss = F.cross_entropy(logits, class_indices)
        sgd.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types
        sgd.step()
        count_errors(logits.detach(), class_indices)
        return loss.item()

    return step


def step_rate(step: Step, batch: int, steps: int, device: torch.device) -> float:
    """Take `steps` steps; return images a second."""
    _synchronise(device)
    start = perf_counter()
    for _ in range(steps):
        step()
    _synchronise(device)
    return batch * steps / (perf_counter() - start)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and record."""
    arguments = _arguments()
    device = torch.device(arguments.device)
    torch.set_num_threads(THREADS)
    steps = 20 if device.type == "cuda" else 1
    print(f"batches of {arguments.batch} at {CROP} × {CROP} on {device}, {steps} step(s) a round, fp32", flush=True)
    sides = {
        name: partial(step_rate, make(arguments.batch, device), arguments.batch, steps, device)
        for name, make in (("ours", our_step), ("textbook", textbook_step))
    }
    rates = alternate(sides, arguments.rounds)
    unit = f"images/s at batch {arguments.batch}, fp32, on {device}" + (f", {THREADS} threads" if device.type == "cpu" else "")
    record("training", "training step against the textbook network", rates["ours"], rates["textbook"], 1.6, unit)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--rounds", type=int, default=7, help="rounds to take the median of, after one that warms up")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    return parser.parse_args()


if __name__ == "__main__":
    main()
