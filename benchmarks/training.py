"""Our training and its parts against the textbook's, at full size: `python -m benchmarks.training`.

Ours is `model.training.loop.Trainer.step`, from the bytes of the loader to the updated weights: the network alone on the same
batch again and again, the loader alone, and both together. The textbook's is the same network made of torch's building blocks,
in fp32; it gets its images in float32. All take turns.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.loading import CROP, SIDE, choose_images, make_shards
from benchmarks.record import COLOURS, alternate, record, run_as
from data_shards.loading.dali import Loader
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.precision import allow_tf32
from model.training.config import TrainConfig
from model.training.loop import Batch, Trainer

CLASSES = 1000
THREADS = 2
MAX_STEPS = 10_000

Step = Callable[[], float]


def textbook_network() -> nn.Sequential:
    """Return logits of NCHW images: grouped convolutions for the two towers, and torch's own layers."""
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
        allow_tf32(False)
        loss = F.cross_entropy(network(images), class_indices)
        sgd.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types
        sgd.step()
        return loss.item()

    return step


class Ours:
    """Our network in training, and a batch to feed it."""

    def __init__(self, arguments: argparse.Namespace, precision: str) -> None:
        self.batch, self.device = arguments.batch, torch.device(arguments.device)
        values = {"batch_size": self.batch, "precision": precision, "learning_rate": 1e-4}  # low: the labels are random
        config = TrainConfig.model_validate(values)
        network = AlexNet(NetworkConfig(num_classes=CLASSES, crop=CROP)).initialise(config.seed, config.initial)
        network.place(self.device, self.device, one_piece=arguments.layout == "one-piece")
        self.trainer = Trainer(network, config, COLOURS, num_images=self.batch * MAX_STEPS)
        self.one = (
            torch.randint(256, (self.batch, CROP, CROP, 3), dtype=torch.uint8, device=self.device),
            torch.randint(CLASSES, (self.batch,), device=self.device),
            torch.arange(self.batch),
        )

    def step(self, batch: Batch | None = None) -> None:
        """Update the weights with a batch of the loader, or with the same one each time."""
        allow_tf32(self.trainer.config.precision == "tf32")
        self.trainer.step(*(batch or self.one))


def step_rate(step: Callable[[], object], batch: int, steps: int, device: torch.device) -> float:
    """Take `steps` steps; return images a second."""
    _synchronise(device)
    start = perf_counter()
    for _ in range(steps):
        step()
    _synchronise(device)
    return batch * steps / (perf_counter() - start)


def fed_rate(batches: Iterator[Batch], take: Callable[[Batch], object], steps: int, device: torch.device) -> float:
    """Take one batch to warm up and `steps` more; return images a second."""
    take(next(batches))
    _synchronise(device)
    start, seen = perf_counter(), 0
    for _ in range(steps):
        batch = next(batches)
        take(batch)
        seen += len(batch[0])
    _synchronise(device)
    return seen / (perf_counter() - start)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Make shards, measure, record."""
    arguments = _arguments()
    run_as("train")
    device = torch.device(arguments.device)
    torch.set_num_threads(THREADS if device.type == "cpu" else arguments.threads)
    steps = 20 if device.type == "cuda" else 2
    shape = f"batches of {arguments.batch} at {CROP} × {CROP} on {device}, {arguments.layout}, {steps} steps a round"
    dataset, shown = choose_images(None, arguments.batch * (steps + 3))
    with tempfile.TemporaryDirectory(prefix="benchmark-training-") as directory:
        print(f"{shape}; making {SIDE} × {SIDE} shards of {shown}", flush=True)
        shards = make_shards(dataset, Path(directory))
        loader = Loader(shards, CROP, arguments.batch, device, arguments.threads, engine_load=arguments.engine_load)
        epochs = count()
        ours = {precision: Ours(arguments, precision) for precision in arguments.precisions}
        best = ours[arguments.precisions[-1]]
        sides: dict[str, Callable[[], float]] = {
            **{f"network, {name}": partial(step_rate, one.step, one.batch, steps, device) for name, one in ours.items()},
            "loader": lambda: fed_rate(loader.training_epoch(0, next(epochs)), lambda batch: None, steps, device),
            "end to end": lambda: fed_rate(loader.training_epoch(0, next(epochs)), best.step, steps, device),
            "textbook": partial(step_rate, textbook_step(arguments.batch, device), arguments.batch, steps, device),
        }
        rates = alternate(sides, arguments.rounds)
    _record(rates, arguments)
    if arguments.profile:
        _profile(best)


def _record(rates: dict[str, float], arguments: argparse.Namespace) -> None:
    where = f"batch {arguments.batch} on {arguments.device}, {arguments.layout}, {arguments.threads} threads"
    for precision in arguments.precisions:
        name = f"training step in {precision} against the textbook network in fp32"
        target = 2.0 if precision == arguments.precisions[-1] else None
        record("training", name, rates[f"network, {precision}"], rates["textbook"], target, f"images/s, {where}")
    slower = min(rates[f"network, {arguments.precisions[-1]}"], rates["loader"])
    target = 0.9 if arguments.device == "cpu" else 0.8
    name = f"end to end in {arguments.precisions[-1]} against the slower of network and loader"
    record("training", name, rates["end to end"], slower, target, f"images/s, {where}")
    print(f"loader alone: {rates['loader']:,.0f} images/s", flush=True)


def _profile(ours: Ours) -> None:
    """Print how the time of five steps is spent."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if ours.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        step_rate(ours.step, ours.batch, 5, ours.device)
    by = "self_cuda_time_total" if ours.device.type == "cuda" else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=by, row_limit=20))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--rounds", type=int, default=3, help="rounds to take the median of, after one to warm up")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--layout", default="towers", choices=["towers", "one-piece"], help="of our network")
    parser.add_argument(
        "--precisions", nargs="+", default=["fp32", "bf16"], help="of our network; the last one runs end to end"
    )
    parser.add_argument("--threads", type=int, default=THREADS, help="threads that decode and, on a CPU, train")
    parser.add_argument("--engine-load", type=float, help="share of the images that a GPU's JPEG engine decodes")
    parser.add_argument("--profile", action="store_true", help="print how the time is spent")
    return parser.parse_args()


if __name__ == "__main__":
    main()
