"""Measure retrieval against what one would write first: `python -m benchmarks.retrieval`.

Exact neighbours by features against torch's matmul and topk, both reading the same files in blocks; by codes against by
features; embedding from shards against the network alone; and the seconds that an auto-encoder trains.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from benchmarks.record import COLOURS, ROOT, alternate, record, run_as
from data_shards.shard_set import ShardSet
from model.evaluation.predict import cut, pass_sizes
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import subtract_mean
from model.retrieval.autoencoder import CodeConfig, train_autoencoder
from model.retrieval.distances import set_num_threads
from model.retrieval.embed import NUM_VIEWS, Embedder, embed, features_of
from model.retrieval.hamming import nearest_codes
from model.retrieval.search import nearest
from model.retrieval.vectors import Vectors, open_vectors, write_vectors

QUERIES, VALUES, NEIGHBOURS = 1000, 4096, 6
ROWS_PER_PART = 1000
LIMIT_GB = 1.5
"""Limit of the memory of a search: libraries, queries and a block, however large the database."""
SMALL_ROWS, SMALL_VALUES = 20_000, 1024
"""Features of a network of a quarter of the width, as in the preset `tiny`."""
PROTOTYPE_SECONDS = 40.0
"""What a prototype took for 28 bits, 20 epochs, on two quiet cores."""


def main() -> None:
    """Measure and record, or with `--child` run one side of a comparison."""
    arguments = _arguments()
    run_as("embed")
    if arguments.child:
        search_once(arguments.child, arguments.directory, arguments.threads)
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-retrieval-", dir=arguments.directory) as directory:
        if arguments.only in (None, "search"):
            measure_search(Path(directory), arguments)
        if arguments.only in (None, "embed"):
            measure_embedding(Path(directory), arguments)
        if arguments.only in (None, "train"):
            measure_training(Path(directory), arguments)


def measure_search(directory: Path, arguments: argparse.Namespace) -> None:
    """Record the rates of exact search by features and by codes, each round in a new process, and the peak memory."""
    print(f"writing {arguments.num_rows:,} features of {VALUES:,} values", flush=True)
    write_features(directory / "features", arguments.num_rows, VALUES)
    peaks: dict[str, list[float]] = {name: [] for name in ("ours", "torch", "256 bits", "28 bits")}
    sides = {name: partial(in_child, name, directory / "features", arguments.threads, peaks[name]) for name in peaks}
    rates = alternate(sides, arguments.rounds)
    unit = f"queries/s of {QUERIES:,} in {arguments.num_rows:,} × {VALUES:,}, {arguments.threads} threads"
    record("retrieval", "exact neighbours against matmul and topk", rates["ours"], rates["torch"], 1.2, unit)
    gigabytes = f"GB: the limit, and the peak of a process that searches {arguments.num_rows * VALUES * 4 / 1e9:.1f} GB"
    record("retrieval", "memory to spare while searching", LIMIT_GB, max(peaks["ours"]), 1.0, gigabytes)
    for name in ("256 bits", "28 bits"):
        record("retrieval", f"neighbours by codes of {name} against by features", rates[name], rates["ours"], None, unit)


def write_features(directory: Path, num_rows: int, num_values: int) -> None:
    """Write random features, half of them zero as after ReLU, in shards of a thousand."""
    directory.mkdir()
    for start in range(0, num_rows, ROWS_PER_PART):
        generator = np.random.Generator(np.random.PCG64(start))
        values = np.maximum(generator.standard_normal((min(ROWS_PER_PART, num_rows - start), num_values), np.float32), 0)
        keys = [f"image-{number:07d}" for number in range(start, start + len(values))]
        write_vectors(directory / f"{start:07d}.arrow", keys, None, values, {})


def in_child(what: str, directory: Path, threads: int, peaks: list[float]) -> float:
    """Return queries per second, and append the peak memory of the process in GB to `peaks`."""
    command = [sys.executable, "-m", "benchmarks.retrieval", "--child", what, "--directory", str(directory)]
    done = subprocess.run([*command, "--threads", str(threads)], cwd=ROOT, check=True, capture_output=True, text=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    peaks.append(peak)
    print(f"  {what}: {seconds:.2f} s, peak {peak:.2f} GB", end=";", flush=True)
    return QUERIES / seconds


def search_once(what: str, directory: Path, threads: int) -> None:
    """Search the files in `directory`; print seconds and peak memory."""
    set_num_threads(threads)
    database = open_vectors(sorted(directory.iterdir()))
    generator = np.random.Generator(np.random.PCG64(1))
    queries = np.maximum(generator.standard_normal((QUERIES, database.num_values), np.float32), 0)
    if what == "ours":
        search = partial(nearest, queries, database, NEIGHBOURS)
    elif what == "torch":
        search = partial(matmul_and_topk, torch.from_numpy(queries), database)
    else:
        codes = generator.integers(0, 256, (len(database) + QUERIES, -(-int(what.split()[0]) // 8)), np.uint8)
        if what == "28 bits":
            codes[:, -1] &= 15
        search = partial(nearest_codes, codes[:QUERIES], codes[QUERIES:], database.key_order, NEIGHBOURS)
    start = perf_counter()
    search()
    print(json.dumps([perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]))


def matmul_and_topk(queries: Tensor, database: Vectors) -> tuple[Tensor, Tensor]:
    """Return distances and rows of the nearest as one would write it first: float32, with no bound on the error."""
    found = [torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)]
    for start, values in database.blocks():
        block = torch.from_numpy(values)
        distances, rows = (block.square().sum(dim=1) - 2 * queries @ block.T).topk(NEIGHBOURS, dim=1, largest=False)
        both = [torch.cat(pair, dim=1) for pair in zip(found, (distances, rows + start), strict=True)]
        best = both[0].topk(NEIGHBOURS, dim=1, largest=False).indices
        found = [one.gather(1, best) for one in both]
    return found[0] + queries.square().sum(dim=1, keepdim=True), found[1]


def measure_embedding(directory: Path, arguments: argparse.Namespace) -> None:
    """Record the rate of embedding at full size against the rate of the network alone."""
    from benchmarks.evaluation import make_shards  # with DALI, which a search does not need and whose memory would count

    shards = make_shards(arguments.num_images, directory / "shards")
    torch.set_num_threads(1)
    network = AlexNet(NetworkConfig()).initialise(0).eval()
    ready = [subtract_mean(views[:, 0], COLOURS) for views in passes(shards, arguments.threads)]
    sides = {
        "ours": partial(embedding_rate, network, shards, arguments.threads),
        "network": partial(network_rate, network, ready, len(shards), arguments.threads),
    }
    rates = alternate(sides, arguments.rounds)
    unit = f"images/s of {len(shards):,}, centre view, {arguments.threads} threads"
    record("retrieval", "embedding against the network alone", rates["ours"], rates["network"], 0.9, unit)


def passes(shards: ShardSet, threads: int) -> Iterator[Tensor]:
    """Return the centre view of every image, uint8 (N, 1, 224, 224, 3), in the passes of the worker."""
    from data_shards.loading.dali import Loader  # as above

    sizes = pass_sizes(shards.samples.groupby("shard", sort=False).size(), NUM_VIEWS)
    loader = Loader(shards, NetworkConfig().crop, 100, torch.device("cpu"), threads)
    return (views for views, *_ in cut(loader.views(NUM_VIEWS), sizes))


def embedding_rate(network: AlexNet, shards: ShardSet, threads: int) -> float:
    """Embed from shards, start-up included; return images per second."""
    start = perf_counter()
    embedder = Embedder(features_of(network), partial(subtract_mean, colours=COLOURS))
    seen = sum(len(features) for (features,) in embed([embedder], passes(shards, threads), threads))
    if seen != len(shards):
        raise RuntimeError(f"{seen:,} images were embedded but the shards hold {len(shards):,}")
    return seen / (perf_counter() - start)


def network_rate(network: AlexNet, ready: list[Tensor], num_images: int, threads: int) -> float:
    """Run the network on the same views as floats in memory, on as many threads; return images per second."""
    start = perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(partial(_features, network), ready))
    return num_images / (perf_counter() - start)


def _features(network: AlexNet, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network.features(images)


def measure_training(directory: Path, arguments: argparse.Namespace) -> None:
    """Record the seconds that an auto-encoder of 28 bits trains, once."""
    write_features(directory / "small", SMALL_ROWS, SMALL_VALUES)
    torch.set_num_threads(arguments.threads)
    config = CodeConfig(hidden=(SMALL_VALUES // 2, SMALL_VALUES // 4))
    start = perf_counter()
    train_autoencoder(open_vectors(sorted((directory / "small").iterdir())), config)
    unit = f"s: a prototype, and ours; {SMALL_ROWS:,} × {SMALL_VALUES:,}, {config.epochs} epochs, {arguments.threads} threads"
    record("retrieval", "training an auto-encoder of 28 bits", PROTOTYPE_SECONDS, perf_counter() - start, None, unit)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=["search", "embed", "train"], help="one of the three measurements")
    parser.add_argument("--directory", type=Path, help="folder for 1.7 GB of files during the run")
    parser.add_argument("--num-rows", type=int, default=100_000, help="features to search")
    parser.add_argument("--num-images", type=int, default=1000, help="images to embed")
    parser.add_argument("--threads", type=int, default=2, help="threads of either side")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side; the median counts")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
