"""Measure the evaluation against a lower bound: `python -m benchmarks.evaluation`.

Tabulating seven networks with their averages, comparisons and classes, against only reading the same files; and predicting
ten views from shards, against the network alone on the same views in memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from benchmarks.record import COLOURS, ROOT, alternate, record, run_as
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.loading.dali import Loader
from data_shards.planning import ShardConfig, plan_shards
from data_shards.shard_set import ShardSet
from data_shards.writing import write_shard
from model.evaluation.answers import Answers
from model.evaluation.classifiers import Factory
from model.evaluation.ensembles import Mix, average
from model.evaluation.factories import call_factory, prepare
from model.evaluation.parquet import ROWS_PER_GROUP
from model.evaluation.predict import Predictor, cut, pass_sizes, predict
from model.evaluation.predictions import join_parts, open_predictions, write_part
from model.evaluation.rows import Evaluation, Measured
from model.evaluation.tables import write_tables
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import subtract_mean

MEMBERS, IMAGES, CLASSES = 7, 50_000, 1000
"""The validation set of ILSVRC-2012, and the networks of the last row of Table 2."""
THREADS = 2
VIEWS = 10
LIMIT_GB = 1.0
"""Limit of the memory for tabulating."""


def main() -> None:
    """Measure and record, or with `--child` run one of the two sides that are compared."""
    arguments = _arguments()
    run_as("tabulate" if arguments.child else "predict")
    if arguments.child:
        tabulate_once(arguments.child, arguments.directory)
        return
    if arguments.only in (None, "tabulate"):
        with tempfile.TemporaryDirectory(prefix="benchmark-evaluation-", dir=arguments.directory) as directory:
            measure_tabulating(Path(directory), arguments.rounds)
    if arguments.only in (None, "predict"):
        with tempfile.TemporaryDirectory(prefix="benchmark-evaluation-", dir=arguments.directory) as directory:
            measure_predicting(Path(directory), arguments)


def measure_tabulating(directory: Path, rounds: int) -> None:
    """Record the rate and the memory of tabulating, each round in a new process."""
    print(f"writing the predictions of {MEMBERS} networks, {IMAGES:,} images, {CLASSES:,} classes", flush=True)
    for member in range(MEMBERS):
        write_predictions(directory, member)
    peaks: list[float] = []
    sides = {
        "tabulating": partial(in_child, "tabulate", directory, peaks),
        "reading": partial(in_child, "read", directory, []),
    }
    rates = alternate(sides, rounds)
    unit = f"images/s of {MEMBERS} × {IMAGES:,} × {CLASSES:,} probabilities"
    record("evaluation", "tabulating against reading the same files", rates["tabulating"], rates["reading"], 1 / 3, unit)
    record("evaluation", "memory to spare while tabulating", LIMIT_GB, max(peaks), 1.0, "GB: the limit, and the peak")


def write_predictions(directory: Path, member: int) -> None:
    """Write a file as the worker does, one part per shard of a thousand: random probabilities that favour the true class."""
    generator = torch.Generator().manual_seed(member)
    about = {"wnids": [f"n{number:08d}" for number in range(CLASSES)], "weights": f"{member}"}
    folder = directory / str(member)
    folder.mkdir()
    ids = [f"image-{number:05d}" for number in range(IMAGES)]
    parts = []
    for start in range(0, IMAGES, 1000):
        true = torch.arange(start, start + 1000) % CLASSES
        logits = torch.randn(1000, CLASSES, generator=generator) * 2
        logits[torch.arange(1000), true] += 5
        parts.append(folder / f"part-{start}.parquet")
        write_part(parts[-1], ids[start : start + 1000], true.numpy(), logits.softmax(dim=1), about)
    join_parts(parts, ids, folder / "predictions.parquet")
    for part in parts:
        part.unlink()


def in_child(what: str, directory: Path, peaks: list[float]) -> float:
    """Return images per second, and append the peak memory of the process in GB to `peaks`."""
    command = [sys.executable, "-m", "benchmarks.evaluation", "--child", what, "--directory", str(directory)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    peaks.append(peak)
    print(f"  {what}: {seconds:.2f} s, peak {peak:.2f} GB", end=";", flush=True)
    return IMAGES / seconds


def tabulate_once(what: str, directory: Path) -> None:
    """Tabulate the files in `directory`, or only read them; print seconds and peak memory."""
    files = [directory / str(member) / "predictions.parquet" for member in range(MEMBERS)]
    start = perf_counter()
    if what == "read":
        for file in files:
            for _ in pq.ParquetFile(file, pre_buffer=False).iter_batches(ROWS_PER_GROUP):
                pass
    else:
        _tabulate(files, directory)
    print(json.dumps([perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]))


def _tabulate(files: list[Path], directory: Path) -> None:
    """Make Table 2 as `flows.reproduce` does: averages of five and seven, all members, all comparisons, all classes."""
    everyone = tuple(range(MEMBERS))
    members = [open_predictions(file) for file in files]
    mixes = {"5 CNNs": Mix(everyone[:5], None), "7 CNNs*": Mix(everyone, None)}
    averaged = zip(mixes, average(members, list(mixes.values())), strict=True)
    measured = [_measured("table2", name, mixes[name].members, answers) for name, answers in averaged]
    measured += [_measured("members", f"CNN, seed {n}", (n,), members[n].answers()) for n in everyone]
    evaluation = Evaluation("random", "val", VIEWS, "benchmark", "", "", None, datetime.now(UTC))
    with tempfile.TemporaryDirectory(dir=directory) as tables:
        write_tables(measured, evaluation, Path(tables), None)


def _measured(table: str, model: str, members: tuple[int, ...], answers: Answers) -> Measured:
    count = len(members)
    digests, shares = tuple(map(str, members)), (1 / count,) * count
    return Measured(table, model, digests, shares, None, None, None, "", (None,) * count, answers)


def measure_predicting(directory: Path, arguments: argparse.Namespace) -> None:
    """Record the rate of predicting ten views at full size against that of the network alone, of ours or of any factory's."""
    shards = make_shards(arguments.num_images, directory)
    torch.set_num_threads(1)
    if arguments.factory is None:
        name, crop = "ten-view prediction", NetworkConfig().crop
        predictor = Predictor(AlexNet(NetworkConfig()).initialise(0).eval(), partial(subtract_mean, colours=COLOURS))
    else:
        name, crop = f"ten-view prediction of {arguments.factory}", arguments.input_size
        factory = Factory(factory=arguments.factory, input_size=crop)
        predictor = Predictor(call_factory(factory.factory).eval(), prepare(factory))
    ready = [predictor.prepare(views.flatten(0, 1)) for views in passes(shards, crop)]
    sides = {
        "ours": partial(predicting_rate, predictor, shards, crop),
        "network": partial(network_rate, predictor.network, ready, len(shards)),
    }
    rates = alternate(sides, arguments.rounds)
    unit = f"images/s of {len(shards):,}, ten views, {THREADS} threads"
    record("evaluation", f"{name} against the network alone", rates["ours"], rates["network"], 0.9, unit)


def make_shards(num_images: int, directory: Path) -> ShardSet:
    """Write synthetic images of 256 × 256 pixels as shards."""
    directory.mkdir(exist_ok=True)
    dataset, config = Synthetic(train_per_class=num_images // 20, val_per_class=1, side=256), ShardConfig()
    with tempfile.TemporaryDirectory() as work:
        for plan in plan_shards(dataset, "train", config, Path(work)):
            write_shard(dataset, plan, config, directory, Path(work))
        write_lists(dataset, directory, Path(work))
    return ShardSet.open(directory)


def passes(shards: ShardSet, crop: int) -> Iterator[Tensor]:
    """Return the views of every image, uint8 (N, 10, crop, crop, 3), in the passes of the worker."""
    sizes = pass_sizes(shards.samples.groupby("shard", sort=False).size(), VIEWS)
    loader = Loader(shards, crop, 40, torch.device("cpu"), THREADS)
    return (views for views, *_ in cut(loader.views(VIEWS), sizes))


def predicting_rate(predictor: Predictor, shards: ShardSet, crop: int) -> float:
    """Predict from shards, start-up included; return images per second."""
    start = perf_counter()
    seen = sum(len(probs) for (probs,) in predict([predictor], passes(shards, crop), THREADS))
    if seen != len(shards):
        raise RuntimeError(f"{seen:,} images were predicted but the shards hold {len(shards):,}")
    return seen / (perf_counter() - start)


def network_rate(network: nn.Module, ready: list[Tensor], num_images: int) -> float:
    """Run the network on the same views as floats in memory, on as many threads; return images per second."""
    start = perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        outputs = list(pool.map(partial(_logits, network), ready))
    if not all(np.isfinite(output.numpy()).all() for output in outputs):
        raise RuntimeError("the network gave values that are not finite")
    return num_images / (perf_counter() - start)


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = network(images)
        return logits


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=["tabulate", "predict"], help="one of the two measurements")
    parser.add_argument("--directory", type=Path, help="folder for 1.5 GB of files during the run")
    parser.add_argument("--num-images", type=int, default=200, help="images to predict")
    parser.add_argument("--factory", help="predict with this network, module:function, instead of ours")
    parser.add_argument("--input-size", type=int, default=224, help="side in pixels of the crops that it reads")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side; the median counts")
    parser.add_argument("--child", choices=["tabulate", "read"], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
