"""What only a machine with a GPU can show, check by check: each returns what it found, or raises `NotRunError`.

Run by `benchmarks.gpu` in a process of its own. Without a GPU the same code runs on the CPU, at a small size.
"""

import copy
import gc
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import COLOURS
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.loading import reference
from data_shards.loading.dali import ENGINE_THREADS, Loader
from data_shards.planning import ShardConfig, plan_shards
from data_shards.shard_format import SAMPLES_FILE, index_name
from data_shards.shard_set import ShardSet
from data_shards.writing import write_shard
from model.evaluation.predict import Predictor, predict
from model.network import response_norm
from model.network.alexnet import AlexNet
from model.network.config import Initial, NetworkConfig
from model.network.fused_norm import Compiled
from model.network.inputs import subtract_mean
from model.network.precision import allow_tf32
from model.network.weights import load_weights
from model.retrieval.embed import Embedder, embed, features_of
from model.training.checkpoint import Checkpoints
from model.training.config import Precision, TrainConfig
from model.training.draws import seed_dropout
from model.training.loop import Batch, StoppedError, Trainer
from tasks.job import JOB, Artifact, to_job_file
from tasks.jobs.colours import COLOURS as COLOURS_FILE
from tasks.jobs.train import WEIGHTS, TrainJob
from tasks.launch import Unit, launch
from tasks.workers.networks import passes_of

CPU = torch.device("cpu")

BF16_LIMITS = {"H200": 989e12, "H100": 989e12, "GH200": 989e12, "B200": 2250e12, "A100": 312e12}
"""[NVIDIA's data sheets] Floating-point operations a second in bf16 without sparsity, of the models with the most."""


class Size(NamedTuple):
    """How large everything is."""

    images_per_class: int
    images_per_shard: int
    side: int
    """Of the stored squares, in pixels."""
    network: NetworkConfig
    batches: tuple[int, ...]
    """Images a step, where speed is measured."""
    learning_batch: int
    """The same where losses and weights are compared."""
    learning_steps: int
    learning_rate: float
    """The same: low, so that differences do not grow."""
    seconds: float
    """That a rate is measured for."""
    repeats: int
    """How often the images are repeated to measure the loader."""


FULL = Size(128, 200, 256, NetworkConfig(), (128, 256, 1024), 32, 50, 0.001, 2.0, 16)
SMALL = Size(6, 50, 72, NetworkConfig(num_classes=20, crop=64, width=1 / 12), (16,), 8, 5, 0.001, 0.1, 1)


class NotRunError(Exception):
    """This machine cannot run the check; the message says why."""


class Found(NamedTuple):
    """What a check found."""

    passed: bool
    said: str
    """One line for the table."""
    values: dict[str, Any]
    """For the JSON file."""


@dataclass(frozen=True)
class Bench:
    """The machine, the sizes and the images."""

    num_gpus: int
    num_threads: int
    directory: Path
    """Of the images, which the first check makes."""
    size: Size = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", FULL if self.num_gpus else SMALL)

    @property
    def device(self) -> torch.device:
        """The first GPU; without one, the CPU."""
        return torch.device("cuda:0") if self.num_gpus else CPU

    @property
    def two(self) -> tuple[torch.device, torch.device]:
        """Two GPUs; without a GPU, the CPU twice.

        Raises:
            NotRunError: there is one GPU.
        """
        if self.num_gpus == 1:
            raise NotRunError("there is one GPU, and this needs two")
        return (torch.device("cuda:0"), torch.device("cuda:1")) if self.num_gpus else (CPU, CPU)

    @cached_property
    def shards(self) -> ShardSet:
        """The images.

        Raises:
            NotRunError: they could not be made.
        """
        if not (self.directory / "train" / SAMPLES_FILE).exists():
            raise NotRunError("there are no images, because they could not be made")
        return ShardSet.open(self.directory / "train")

    @cached_property
    def many(self) -> ShardSet:
        """The same images several times under other names: hard links, so that they stay in memory."""
        folder, tables = self.directory / "many", []
        folder.mkdir(exist_ok=True)
        for turn in range(self.size.repeats):
            tables.append(self.shards.samples.assign(shard=[f"{turn:02d}-{name}" for name in self.shards.samples["shard"]]))
            for tar in self.shards.tars:
                for name in (tar.name, index_name(tar.name)):
                    (folder / f"{turn:02d}-{name}").unlink(missing_ok=True)
                    os.link(tar.with_name(name), folder / f"{turn:02d}-{name}")
        return ShardSet(folder, pd.concat(tables, ignore_index=True), self.shards.classes)

    def loader(self, device: torch.device, batch: int, engine_load: float | None = None, many: bool = False) -> Loader:
        """Return a loader of the images, or of all their repetitions."""
        shards, crop = self.many if many else self.shards, self.size.network.crop
        return Loader(shards, crop, batch, device, self.num_threads, engine_load=engine_load)

    def network(self, **changes: Any) -> AlexNet:
        """Return a network with initial weights that learns from the first steps on."""
        config = self.size.network.model_copy(update=changes)
        return AlexNet(config).initialise(0, Initial(middle_std=0.03))

    def trainer(
        self,
        network: AlexNet,
        precision: Precision = "fp32",
        batch: int | None = None,
        rate: float | None = None,
        **options: Any,
    ) -> Trainer:
        """Return the training of a network that is on its devices."""
        allow_tf32(precision == "tf32")
        torch.backends.cudnn.benchmark = True
        config = TrainConfig(
            batch_size=batch or self.size.learning_batch, precision=precision, learning_rate=rate or self.size.learning_rate
        )
        return Trainer(network, config, COLOURS, **{"num_images": len(self.shards), **options})

    def batches(self, steps: int) -> list[Batch]:
        """Return the first batches of an epoch, decoded on the CPU."""
        return list(islice(self.loader(CPU, self.size.learning_batch).training_epoch(0, 0), steps))

    def synchronise(self) -> None:
        """Wait until all GPUs have finished."""
        for number in range(self.num_gpus):
            torch.cuda.synchronize(number)

    def rate(self, step: Callable[[], int], warm_up: int) -> float:
        """Return images a second of steps that return their numbers of images."""
        for _ in range(warm_up):
            step()
        self.synchronise()
        start, images = perf_counter(), 0
        while perf_counter() - start < self.size.seconds:
            images += sum(step() for _ in range(5))
            self.synchronise()
        return images / (perf_counter() - start)


def images(bench: Bench) -> Found:
    """Draw photographs and write them with the project's own writer."""
    size, shards, start = bench.size, bench.directory / "train", perf_counter()
    dataset = Synthetic(size.images_per_class, 1, side=size.side)
    config = ShardConfig(storage=f"square{size.side}", samples_per_shard=size.images_per_shard)
    shards.mkdir()
    with tempfile.TemporaryDirectory() as work:
        write = partial(write_shard, dataset, config=config, directory=shards, work=Path(work))
        with ProcessPoolExecutor(bench.num_threads) as pool:
            list(pool.map(write, plan_shards(dataset, "train", config, Path(work))))
        write_lists(dataset, shards, Path(work))
    samples = bench.shards.samples
    kilobytes = float(samples["size"].mean()) / 1e3
    said = f"{len(samples):,} drawn photographs of {size.side} × {size.side}, {kilobytes:.1f} KB each"
    return Found(True, said, {"num_images": len(samples), "kilobytes": kilobytes, "seconds": perf_counter() - start})


MEAN_LIMIT, IMAGE_LIMIT, MOST_LIMIT = 1.0, 4.0, 12
"""(ours) Levels of 0…255: the mean difference of all values, the mean of one image, and that of 99.9 % of the values.

Decoders round differently and interpolate colour differently at the edge of a region. Another image, crop or reflection differs
by tens of levels."""


def compared(found: Tensor, expected: Tensor) -> Found:
    """Compare uint8 images (N, ..., H, W, 3) with those of the CPU."""
    if found.shape != expected.shape:
        return Found(False, f"the shape is {tuple(found.shape)}; expected {tuple(expected.shape)}", {})
    levels = torch.zeros(256, dtype=torch.int64)
    per_image = torch.zeros(len(found))
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        difference = (one.cpu().to(torch.int16) - other.to(torch.int16)).abs().flatten()
        levels += torch.bincount(difference.long(), minlength=256)
        per_image[place] = difference.float().mean()
    mean = float((levels * torch.arange(256)).sum() / levels.sum())
    most = int((levels.cumsum(0) < 0.999 * levels.sum()).sum())
    values = {
        "mean": mean,
        "most_different_image": float(per_image.max()),
        "99.9 %": most,
        "maximum": int(levels.nonzero().max()),
        "equal": float(levels[0] / levels.sum()),
    }
    said = (
        f"differs by {mean:.3f} of 255 on average, {values['most_different_image']:.3f} in the worst image, "
        f"{most} at 99.9 %, {values['maximum']} at most (limits {MEAN_LIMIT:g}, {IMAGE_LIMIT:g}, {MOST_LIMIT}, none)"
    )
    return Found(mean <= MEAN_LIMIT and values["most_different_image"] <= IMAGE_LIMIT and most <= MOST_LIMIT, said, values)


def pixels(bench: Bench) -> Found:
    """Compare random crops with the CPU's, with each share of the JPEG engine."""
    batch = bench.size.learning_batch
    num = 8 * batch

    def crops(device: torch.device, engine_load: float | None = None) -> Tensor:
        batches = list(islice(bench.loader(device, batch, engine_load).training_epoch(0, 0), 8))
        return torch.cat([images.cpu() for images, _, _ in batches])[:num]

    expected = crops(CPU)
    shares = {"usual": None, "none": 0.0, "nearly all": 0.99}
    found = {name: compared(crops(bench.device, share), expected) for name, share in shares.items()}
    failed = [name for name, one in found.items() if not one.passed]
    values = {name: one.values for name, one in found.items()}
    said = found[failed[0] if failed else "usual"].said
    return Found(not failed, said + (f"; the JPEG engine's share: {failed[0]}" if failed else ""), values)


def ten_views(bench: Bench) -> Found:
    """Compare the ten views with those that Pillow and NumPy cut."""
    num = 4 * bench.size.learning_batch
    plain = islice(reference.views(bench.shards, bench.size.network.crop, 10), num)
    expected = torch.stack([torch.from_numpy(views.copy()) for views in plain])
    found: list[Tensor] = []
    for views, _, _ in bench.loader(bench.device, bench.size.learning_batch).views(10):
        found.append(views.cpu())
        if sum(map(len, found)) >= num:
            break
    return compared(torch.cat(found)[:num], expected[:num])


def order(bench: Bench) -> Found:
    """Compare places and labels of whole epochs and of the views with the CPU's; resume one in the middle."""
    batch, runs = bench.size.learning_batch, {}
    for name, device in (("found", bench.device), ("expected", CPU)):
        loader = bench.loader(device, batch)
        epochs = [loader.training_epoch(1, 2), loader.training_epoch(1, 2, start=batch + 3), loader.views(1)]
        seen = [[(labels.cpu(), places) for _, labels, places in epoch] for epoch in epochs]
        runs[name] = [tuple(map(torch.cat, zip(*epoch, strict=True))) for epoch in seen]
    same = all(
        torch.equal(one, other)
        for found, expected in zip(runs["found"], runs["expected"], strict=True)
        for one, other in zip(found, expected, strict=True)
    )
    num = sum(len(labels) for labels, _ in runs["found"])
    return Found(same, f"{num:,} labels and places are {'the same' if same else 'NOT the same'}", {"num_images": num})


NORM_LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2**-6}
"""(ours) Of the largest difference, as a share of the largest value: bf16 may round twice."""


def normalisation(bench: Bench) -> Found:
    """Compare output and gradient of the form for GPUs with the CPU's; measure both forms where they run."""
    values: dict[str, Any] = {}
    worst = 0.0  # as a share of the limit
    sides = bench.size.network.map_sides
    for dtype, limit in NORM_LIMITS.items():
        for channels, side in ((96, sides[0]), (256, sides[1])):
            torch.manual_seed(0)
            x = (torch.randn(8, channels, side, side) * 30).to(dtype).contiguous(memory_format=torch.channels_last)
            upstream = torch.randn(x.shape).to(dtype).contiguous(memory_format=torch.channels_last)
            results = [_normalised(x.to(device), upstream.to(device)) for device in (bench.device, CPU)]
            for name, found, expected in zip(("output", "gradient"), *results, strict=True):
                share = _relative(found, expected)
                values[f"{name}, {channels} channels, {str(dtype).removeprefix('torch.')}"] = share
                worst = max(worst, share / limit)
    said = f"differs by {worst:.1%} of the limit"
    if not bench.num_gpus:
        return Found(worst <= 1, f"{said}; speed is not measured", values)
    speeds = _norm_speeds(bench)
    said += f"; {speeds['fused_ms']:.2f} ms on conv1 at batch 128 in bf16 against {speeds['banded_ms']:.2f} unfused, "
    said += f"{speeds['kernels']:.0f} kernels" if Compiled.usable else "NOT COMPILED"
    return Found(worst <= 1 and Compiled.usable, said, {**values, **speeds, "compiled": Compiled.usable})


def _normalised(x: Tensor, upstream: Tensor) -> list[Tensor]:
    """Return output and gradient on the CPU in float32."""
    x = x.clone().requires_grad_()
    y = response_norm.local_response_norm(x, 5, 1e-4, 2.0, towers=2)
    return [value.detach().float().cpu() for value in (y, torch.autograd.grad(y, x, upstream)[0])]


def _norm_speeds(bench: Bench) -> dict[str, float]:
    """Return milliseconds of output and gradient together, of both forms, and the kernels of the fused one."""
    rows = torch.randn(128 * 55 * 55 * 2, 48, device=bench.device, dtype=torch.bfloat16)
    milliseconds = {}
    for name, normalise, derive in (
        ("fused", response_norm._normalised_on_gpu, response_norm._gradient_on_gpu),  # noqa: SLF001  # to compare the two
        ("banded", response_norm._normalised, response_norm._gradient),  # noqa: SLF001  # likewise
    ):

        def both(normalise: Any = normalise, derive: Any = derive) -> int:
            with torch.no_grad():
                _, denominators = normalise(rows, 5, 1e-4, 2.0)
                derive(rows, rows, denominators, 5, 1e-4)
            return 1

        milliseconds[f"{name}_ms"] = 1e3 / bench.rate(both, warm_up=3)
        if name == "fused":
            milliseconds["kernels"] = float(sum(number for _, _, number in _kernels(both, bench)))
    return milliseconds


def _relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


LOSS_LIMITS: dict[Precision, float] = {"fp32": 0.002, "tf32": 0.01, "bf16": 0.1}
"""(ours) Of the largest relative difference of a step's loss from that of the CPU in fp32."""


def precisions(bench: Bench) -> Found:
    """Compare the losses of the first steps, without dropout, with the CPU's in fp32."""
    batches = bench.batches(bench.size.learning_steps)
    expected = losses(bench, bench.network(dropout=0.0), "fp32", batches)
    values: dict[str, Any] = {"cpu": expected.tolist()}
    passed, said = True, []
    for precision, limit in LOSS_LIMITS.items():
        network = bench.network(dropout=0.0).place(bench.device, bench.device, one_piece=True)
        found = losses(bench, network, precision, batches)
        apart = float(((found - expected) / expected).abs().max())
        values |= {precision: found.tolist(), f"{precision}_apart": apart}
        passed = passed and apart <= limit  # a loss that is not a number fails
        said.append(f"{precision} {apart:.2g} (limit {limit:g})")
    fall = f"the loss goes from {expected[0]:.3f} to {expected[-1]:.3f} in {len(batches)} steps"
    return Found(passed, f"{fall}; apart from the CPU's by at most {', '.join(said)}", values)


def losses(bench: Bench, network: AlexNet, precision: Precision, batches: Sequence[Batch]) -> Tensor:
    """Train with these batches; return the loss of each step, float64 (steps,)."""
    trainer = bench.trainer(network, precision)
    for images, class_indices, places in batches:
        trainer.step(images.to(trainer.device), class_indices.to(trainer.device), places)
    return torch.stack([sums[0].cpu() / num for num, sums in trainer.unread])


UPDATE_LIMIT = 0.02
"""(ours) Of the largest difference of two networks' parameters, as a share of how far training moved them."""
COMPARED_STEPS = 3


def layouts(bench: Bench) -> Found:
    """Compare towers with one piece, and with towers on two GPUs if there are two, after a few steps without dropout."""
    places = {"one piece": (bench.device, bench.device, True)}
    if bench.num_gpus != 1:
        places["towers on two devices"] = (*bench.two, False)
    batches = bench.batches(COMPARED_STEPS)
    start, towers = (bench.network(dropout=0.0) for _ in range(2))
    losses(bench, towers.place(bench.device, bench.device), "fp32", batches)
    values = {}
    for name, place in places.items():
        other = bench.network(dropout=0.0).place(*place)
        losses(bench, other, "fp32", batches)
        values[name] = apart(other, towers, start)
    said = ", ".join(f"{name} {value:.2g}" for name, value in values.items())
    missing = "; towers on two GPUs: not run, there is one" if bench.num_gpus == 1 else ""
    said = (
        f"apart from towers on one device after {COMPARED_STEPS} steps: {said} of the update (limit {UPDATE_LIMIT:g}){missing}"
    )
    return Found(all(value <= UPDATE_LIMIT for value in values.values()), said, values)


def apart(one: AlexNet, other: AlexNet, start: AlexNet) -> float:
    """Return the largest difference of a parameter as a share of the largest change of its layer since the start."""
    values = [{name: value.detach().cpu() for name, value in network.named_parameters()} for network in (one, other, start)]
    shares = [
        float((value - values[1][name]).abs().max() / (values[1][name] - values[2][name]).abs().max().clamp(min=1e-12))
        for name, value in values[0].items()
    ]
    return max(shares) if all(share == share for share in shares) else float("nan")


def replicas(bench: Bench) -> Found:
    """Compare replicas on two GPUs, which share each batch by NCCL, with one GPU, after an epoch without dropout."""
    two = bench.two
    (bench.directory / COLOURS_FILE).write_text(COLOURS.model_dump_json())
    shards = Artifact(path=bench.directory / "train", digest="train")
    network = bench.size.network.model_copy(update={"dropout": 0.0, "num_classes": len(bench.shards.wnids)})
    runs: dict[str, dict[str, Any]] = {
        "replicas": {"layout": "replicas", "devices": tuple(map(str, two))},
        "one": {"layout": "one-piece", "devices": (str(two[0]),)},
    }
    trained = {}
    for name, options in runs.items():
        folder = bench.directory / name
        folder.mkdir()
        job = TrainJob(
            name=name,
            train=shards,
            val=shards,
            colours=Artifact(path=bench.directory, digest="colours"),
            network=network,
            training=TrainConfig(
                epochs=1,
                batch_size=len(bench.shards) // COMPARED_STEPS,
                learning_rate=bench.size.learning_rate,
                initial=Initial(middle_std=0.03),
            ),
            num_threads=max(1, bench.num_threads // 2),
            **options,
        )
        (folder / JOB).write_bytes(to_job_file(job))
        launch([Unit("train", (str(folder / JOB),), name)], 1, lambda unit, message: None, lambda unit: None)
        trained[name] = load_weights(folder / WEIGHTS)[0]
    start = AlexNet(network).initialise(job.training.seed, job.training.initial)
    share = apart(trained["replicas"], trained["one"], start)
    said = f"apart after {COMPARED_STEPS} steps: {share:.2g} of the update (limit {UPDATE_LIMIT:g})"
    return Found(share <= UPDATE_LIMIT, said, {"apart": share})


def resumption(bench: Bench) -> Found:
    """Stop a training with dropout in mid-epoch, resume it from its checkpoint, and compare it with one that did not stop."""
    steps, batch = 6, len(bench.shards) // 6
    start = bench.network()
    networks = [copy.deepcopy(start).place(bench.device, bench.device, one_piece=True) for _ in range(3)]
    unbroken, broken, resumed = networks
    loader = bench.loader(bench.device, batch)
    with tempfile.TemporaryDirectory(dir=bench.directory) as directory:
        options = {"batch": batch, "num_images": len(bench.shards)}
        bench.trainer(unbroken, **options).train_epoch(loader.training_epoch(0, 0))
        first = bench.trainer(broken, **options, checkpoints=Checkpoints(Path(directory)))
        first.stop_asked = lambda: first.state.step >= steps // 2
        try:
            first.train_epoch(loader.training_epoch(0, 0))
            raise RuntimeError("the training was asked to stop and did not")
        except StoppedError:
            pass
        second = bench.trainer(resumed.initialise(1), **options, checkpoints=Checkpoints(Path(directory)))
        second.resume()
        second.train_epoch(loader.training_epoch(0, 0, start=second.state.images))
    share = apart(resumed, unbroken, start)
    equal = all(torch.equal(one, other) for one, other in zip(resumed.parameters(), unbroken.parameters(), strict=True))
    said = f"after {second.state.step} steps {'the same bits' if equal else f'apart by {share:.2g} of the update'}"
    return Found(share <= UPDATE_LIMIT, f"{said} (limit {UPDATE_LIMIT:g})", {"apart": share, "bits_equal": equal})


def dropout(bench: Bench) -> Found:
    """Show that towers drop different units, on one device and on two, and that a step draws the same again."""
    devices = [bench.device] if bench.num_gpus < 2 else list(bench.two)

    def masks(place: int) -> list[Tensor]:
        seed_dropout(devices, 0, 0, place)
        return [F.dropout(torch.ones(4096, device=devices[tower % len(devices)])).bool().cpu() for tower in range(2)]

    first, again, other = masks(0), masks(0), masks(128)
    repeated = all(torch.equal(one, same) for one, same in zip(first, again, strict=True))
    shares = {
        "towers": float((first[0] == first[1]).float().mean()),
        "steps": float((first[0] == other[0]).float().mean()),
    }
    different = all(0.45 < share < 0.55 for share in shares.values())
    where = "on two GPUs" if len(devices) == 2 else "on one device (two GPUs: not run)"
    said = f"{where} {shares['towers']:.1%} of two towers' units agree, {shares['steps']:.1%} of two steps' (chance: 50 %); "
    return Found(repeated and different, said + f"a step {'repeats' if repeated else 'DOES NOT repeat'} its draw", shares)


def speed(bench: Bench, which: int) -> Found:
    """Measure network, loader and both together in bf16, and the share of the GPU's limit that the network reaches."""
    if which >= len(bench.size.batches):
        raise NotRunError("without a GPU, only the smallest batch is run")
    batch = bench.size.batches[which]
    network = bench.network().place(bench.device, bench.device, one_piece=True)
    alone, fed = (_step_of(bench, network, "bf16", batch, rate=1e-4) for _ in range(2))
    one = _one_batch(bench, batch)
    rates = {
        "network": bench.rate(lambda: alone(one), warm_up=5),
        "loader": _fed_rate(bench, batch, lambda batch: len(batch[0])),
        "both": _fed_rate(bench, batch, fed),
    }
    share = rates["both"] / min(rates["network"], rates["loader"])
    said = ", ".join(f"{name} {value:,.0f}" for name, value in rates.items())
    said = f"images/s: {said}, which is {share:.2f} of the slower (target .8)"
    values: dict[str, Any] = {**rates, "share_of_slower": share}
    if bench.num_gpus:
        values |= _limits(bench, rates["network"])
        said += f"; the network reaches {values['share_of_matmul']:.1%} of a product of matrices"
        said += f", {values['share_of_data_sheet']:.1%} of the data sheet" if "share_of_data_sheet" in values else ""
    return Found(True, said, values)


def _step_of(bench: Bench, network: AlexNet, precision: Precision, batch: int, rate: float = 1e-4) -> Callable[[Batch], int]:
    """Return a step of training from a batch; the rate is low, because the labels of one batch are repeated."""
    trainer = bench.trainer(network, precision, batch, rate, num_images=1 << 22)

    def step(one: Batch) -> int:
        allow_tf32(precision == "tf32")
        trainer.step(*one)
        if len(trainer.unread) > 1000:
            trainer.unread.clear()
        return len(one[0])

    return step


def _one_batch(bench: Bench, batch: int) -> Batch:
    crop, device = bench.size.network.crop, bench.device
    images = torch.randint(256, (batch, crop, crop, 3), dtype=torch.uint8, device=device)
    return images, torch.randint(20, (batch,), device=device), torch.arange(batch)


def _fed_rate(bench: Bench, batch: int, take: Callable[[Batch], int], engine_load: float | None = None) -> float:
    """Read epochs of the loader; return images a second, without the first batches of each."""
    loader, epochs = bench.loader(bench.device, batch, engine_load, many=True), count()
    seconds, seen = 0.0, 0
    while seconds < bench.size.seconds:
        batches = loader.training_epoch(0, next(epochs))
        for one in islice(batches, 3):  # what was decoded while the pipeline started
            take(one)
        bench.synchronise()
        start = perf_counter()
        for one in batches:
            seen += take(one)
            if perf_counter() - start > bench.size.seconds:
                break
        bench.synchronise()
        seconds += perf_counter() - start
    return seen / seconds


def _limits(bench: Bench, rate: float) -> dict[str, float]:
    """Return the floating-point operations of an image in training, and the shares of two limits at this rate."""
    with FlopCounterMode(display=False) as counter:
        AlexNet(bench.size.network)(torch.zeros(1, 3, bench.size.network.crop, bench.size.network.crop)).sum().backward()
    flops = counter.get_total_flops()
    side = 8192
    left, right = (torch.randn(side, side, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    matmul = bench.rate(lambda: len(left @ right), warm_up=3) / side * 2 * side**3
    limits = {"flops_per_image": float(flops), "matmul_flops": matmul, "share_of_matmul": flops * rate / matmul}
    name = torch.cuda.get_device_name(bench.device)
    published = max((limit for key, limit in BF16_LIMITS.items() if key in name), default=None)
    return limits if published is None else {**limits, "share_of_data_sheet": flops * rate / published}


def speed_of_forms(bench: Bench) -> Found:
    """Measure a training step at the smallest batch in each precision, and as towers one after the other."""
    batch, values = bench.size.batches[0], {}
    one = _one_batch(bench, batch)
    forms: list[tuple[Precision, bool]] = [("fp32", True), ("tf32", True), ("bf16", True), ("bf16", False)]
    for precision, one_piece in forms:
        step = _step_of(bench, bench.network().place(bench.device, bench.device, one_piece), precision, batch)
        name = f"{precision}, {'one piece' if one_piece else 'towers'}"
        values[name] = bench.rate(partial(step, one), warm_up=5)
        del step
        release()
    return Found(
        True, f"images/s at batch {batch}: " + "; ".join(f"{name} {rate:,.0f}" for name, rate in values.items()), values
    )


def engine(bench: Bench) -> Found:
    """Measure the loader with several shares of images for the JPEG engine."""
    if not bench.num_gpus:
        raise NotRunError("a CPU has no JPEG engine")
    usual = ENGINE_THREADS / (ENGINE_THREADS + bench.num_threads)
    values = {}
    for share in (0.0, 0.5, 0.65, 0.8, 0.99, usual):
        values[f"{share:.2f}{' (usual)' if share == usual else ''}"] = _fed_rate(bench, 256, lambda b: len(b[0]), share)
    best = max(values, key=lambda name: values[name])
    said = "; ".join(f"{name} {rate:,.0f}" for name, rate in values.items())
    return Found(True, f"images/s of the loader at batch 256 by share: {said}; the best is {best}", values)


def kernels(bench: Bench) -> Found:
    """Name the five kernels that take the most time of a step in bf16 at the largest batch."""
    batch = bench.size.batches[-1]
    network = bench.network().place(bench.device, bench.device, one_piece=True)
    step = partial(_step_of(bench, network, "bf16", batch), _one_batch(bench, batch))
    for _ in range(5):
        step()
    spent = _kernels(step, bench)
    total = sum(milliseconds for _, milliseconds, _ in spent)
    values = {name: {"milliseconds": ms, "share": ms / total, "calls": calls} for name, ms, calls in spent[:20]}
    said = "; ".join(f"{ms / total:.0%} {name[:48]}" for name, ms, _ in spent[:5])
    return Found(bool(spent), f"of {total:.1f} ms a step at batch {batch}: {said}", values)


def _kernels(step: Callable[[], object], bench: Bench) -> list[tuple[str, float, float]]:
    """Return for each kernel its name, its milliseconds and its calls in a step, the most expensive first.

    Without a GPU, the operations of the CPU.

    Raises:
        RuntimeError: the profiler recorded nothing.
    """
    steps = 3
    cpu, cuda = torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA
    bench.synchronise()
    with torch.profiler.profile(activities=[cpu, cuda] if bench.num_gpus else [cpu]) as profiler:
        for _ in range(steps):
            step()
        bench.synchronise()
    kind = torch.autograd.DeviceType.CUDA if bench.num_gpus else torch.autograd.DeviceType.CPU
    events = [event for event in profiler.key_averages() if event.device_type == kind and not event.is_user_annotation]
    times = [event.self_device_time_total if bench.num_gpus else event.self_cpu_time_total for event in events]  # µs
    found = [
        (event.key, time / 1e3 / steps, event.count / steps) for event, time in zip(events, times, strict=True) if time > 0
    ]
    if not found:
        raise RuntimeError("the profiler recorded no kernel; the driver may reserve its counters for the administrator")
    return sorted(found, key=lambda kernel: -kernel[1])


OUTPUT_LIMIT = 1e-3
"""(ours) Of the largest difference between GPU and CPU in fp32, as a share of the largest value."""
NUM_TESTED = 2000


def prediction(bench: Bench) -> Found:
    """Compare ten-view probabilities with the CPU's of the same pixels; measure from shards to probabilities."""
    allow_tf32(False)
    predictors = [
        Predictor(bench.network().place(device, device), partial(subtract_mean, colours=COLOURS))
        for device in (bench.device, CPU)
    ]
    return _tested(bench, 10, lambda which, passes: (probs for (probs,) in predict([predictors[which]], passes)))


def embedding(bench: Bench) -> Found:
    """Compare features with the CPU's of the same pixels; measure from shards to features, on as many threads as a worker."""
    allow_tf32(False)
    embedders = [
        Embedder(features_of(bench.network().place(device, device)), partial(subtract_mean, colours=COLOURS))
        for device in (bench.device, CPU)
    ]
    at_once = bench.num_threads
    return _tested(bench, 1, lambda which, passes: (found for (found,) in embed([embedders[which]], passes, at_once)))


def _tested(bench: Bench, num_views: int, outputs: Callable[[int, Iterator[Tensor]], Iterator[Tensor]]) -> Found:
    """Compare outputs of the first device with those of the CPU; measure from shards, and with the views at hand."""
    loader = bench.loader(bench.device, 40, many=True)
    some = list(islice(passes_of(loader, num_views), -(-NUM_TESTED // 100 * num_views) if bench.num_gpus else 2))
    few = some[:2]
    found = torch.cat(list(outputs(0, iter(few))))
    share = _relative(found, torch.cat(list(outputs(1, (views.cpu() for views in few)))))
    start = perf_counter()
    alone = sum(map(len, outputs(0, iter(some)))) / (perf_counter() - start)
    whole = passes_of(loader, num_views)
    next(whole)
    start = perf_counter()
    from_shards = sum(map(len, outputs(0, islice(whole, len(some))))) / (perf_counter() - start)
    values = {"apart": share, "from_shards": from_shards, "network": alone}
    said = (
        f"apart from the CPU's by {share:.2g} (limit {OUTPUT_LIMIT:g}); {from_shards:,.0f} images/s, network alone {alone:,.0f}"
    )
    return Found(share <= OUTPUT_LIMIT, said, values)


def release() -> None:
    """Free the GPU memory that PyTorch keeps for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Check(NamedTuple):
    """A check and the seconds that it may take."""

    run: Callable[[Bench], Found]
    seconds: float


CHECKS: dict[str, Check] = {
    "photographs": Check(images, 60),
    "decoded pixels": Check(pixels, 40),
    "ten views": Check(ten_views, 40),
    "order and labels": Check(order, 40),
    "response normalisation": Check(normalisation, 90),
    "fp32, TF32, bf16": Check(precisions, 120),
    "towers and one piece": Check(layouts, 60),
    "dropout": Check(dropout, 20),
    "resumption": Check(resumption, 60),
    "speed, batch 128": Check(partial(speed, which=0), 60),
    "speed, batch 256": Check(partial(speed, which=1), 50),
    "speed, batch 1,024": Check(partial(speed, which=2), 50),
    "kernels": Check(kernels, 50),
    "prediction in ten views": Check(prediction, 50),
    "embedding": Check(embedding, 50),
    "speed by precision": Check(speed_of_forms, 60),
    "JPEG engine": Check(engine, 60),
    "replicas": Check(replicas, 90),
}
"""In this order: what is right comes before what is fast."""
