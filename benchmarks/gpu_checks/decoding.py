"""Whether a GPU decodes, cuts, orders and labels images as a CPU does."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from benchmarks.gpu_checks.bench import CPU, Bench, Found
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.loading import reference
from data_shards.planning import ShardConfig, plan_shards
from data_shards.writing import write_shard
from tasks.workers.guard import die_with_parent


def images(bench: Bench) -> Found:
    """Draw photographs and write them with the project's own writer."""
    size, shards, start = bench.size, bench.directory / "train", perf_counter()
    dataset = Synthetic(size.images_per_class, 1, side=size.side)
    config = ShardConfig(storage=f"square{size.side}", samples_per_shard=size.images_per_shard)
    shards.mkdir()
    with tempfile.TemporaryDirectory() as work:
        write = partial(write_shard, dataset, config=config, directory=shards, work=Path(work))
        with ProcessPoolExecutor(bench.num_threads, initializer=die_with_parent) as pool:
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
