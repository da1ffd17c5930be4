"""Whether a GPU computes and learns as a CPU does, in each layout and after an interruption."""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu_checks.bench import CPU, Bench, Found, relative
from benchmarks.gpu_checks.speed import kernels_of
from benchmarks.record import COLOURS
from model.network import response_norm
from model.network.alexnet import AlexNet
from model.network.config import Initial
from model.network.fused_norm import Compiled
from model.network.weights import load_weights
from model.training.checkpoint import Checkpoints
from model.training.config import Precision, TrainConfig
from model.training.draws import seed_dropout
from model.training.loop import Batch, StoppedError
from tasks.job import JOB, Artifact, to_job_file
from tasks.jobs.colours import COLOURS as COLOURS_FILE
from tasks.jobs.train import WEIGHTS, TrainJob
from tasks.launch import Unit, launch

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
                share = relative(found, expected)
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
            milliseconds["kernels"] = float(sum(number for _, _, number in kernels_of(both, bench)))
    return milliseconds


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
