"""How fast a GPU trains and loads, against its limits and in each form."""

from collections.abc import Callable
from functools import partial
from itertools import count, islice
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_checks.bench import Bench, Found, NotRunError, release
from data_shards.loading.dali import ENGINE_THREADS
from model.network.alexnet import AlexNet
from model.network.precision import allow_tf32
from model.training.config import Precision
from model.training.loop import Batch

BF16_LIMITS = {"H200": 989e12, "H100": 989e12, "GH200": 989e12, "B200": 2250e12, "A100": 312e12}
"""[NVIDIA's data sheets] Floating-point operations a second in bf16 without sparsity, of the models with the most."""


def end_to_end(bench: Bench, which: int) -> Found:
    """Measure network, loader and both together in bf16, and the share of the GPU's limit that the network reaches."""
    if which >= len(bench.size.batches):
        raise NotRunError("without a GPU, only the smallest batch is run")
    batch = bench.size.batches[which]
    network = bench.network().place(bench.device, bench.device, one_piece=True)
    alone, fed = (_step_of(bench, network, "bf16", batch) for _ in range(2))
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


def _step_of(bench: Bench, network: AlexNet, precision: Precision, batch: int) -> Callable[[Batch], int]:
    """Return a step of training from a batch; the rate is low, because the labels of one batch are repeated."""
    trainer = bench.trainer(network, precision, batch, 1e-4, num_images=1 << 22)

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


def forms(bench: Bench) -> Found:
    """Measure a training step at the smallest batch in each precision, and as towers one after the other."""
    batch, values = bench.size.batches[0], {}
    one = _one_batch(bench, batch)
    compared: list[tuple[Precision, bool]] = [("fp32", True), ("tf32", True), ("bf16", True), ("bf16", False)]
    for precision, one_piece in compared:
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
    spent = kernels_of(step, bench)
    total = sum(milliseconds for _, milliseconds, _ in spent)
    values = {name: {"milliseconds": ms, "share": ms / total, "calls": calls} for name, ms, calls in spent[:20]}
    said = "; ".join(f"{ms / total:.0%} {name[:48]}" for name, ms, _ in spent[:5])
    return Found(bool(spent), f"of {total:.1f} ms a step at batch {batch}: {said}", values)


def kernels_of(step: Callable[[], object], bench: Bench) -> list[tuple[str, float, float]]:
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
