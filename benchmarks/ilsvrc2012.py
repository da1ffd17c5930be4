"""ILSVRC-2012 by its numbers, with tiny images: `python -m benchmarks.ilsvrc2012 --folder FOLDER [--scale .01]`.

Writes archives of the official form with 1,281,167, 50,000 and 100,000 JPEGs of a few hundred bytes in 1,000 classes. Then it
shards all of them as `square72`, reads the shards again, predicts the validation images by seven networks of width 1/8 in ten
views and tabulates. For each step it prints the time, the peak memory of this process and of the largest worker, and how many
files were open at once.
"""

import argparse
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any

import numpy as np
import scipy.io
import simplejpeg

from benchmarks.record import COLOURS
from data_shards.datasets.ilsvrc import IlsvrcSource
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet
from flows.rows import paper_rows
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.weights import WeightsInfo, save_weights
from tasks.compute import choose_compute
from tasks.job import Weights
from tasks.predict import predict_split
from tasks.shard import shard_split
from tasks.tabulate import write_error_rates
from tasks.train import open_weights
from tasks.verify import verify_set
from tasks.workspace import locked

NUM_IMAGES = {"train": 1_281_167, "val": 50_000, "test": 100_000}
NUM_CLASSES = 1000
NETWORK = NetworkConfig(num_classes=NUM_CLASSES, crop=64, width=1 / 8)
NUM_NETWORKS = 7
WNIDS = [f"n{1_000_000 + number:08d}" for number in range(NUM_CLASSES)]
SECONDS_BETWEEN_SAMPLES = 0.5


def draw(number: int) -> bytes:
    """Return a JPEG of a few hundred bytes: 72 × 72 pixels, whose four quarters have colours that follow from the number."""
    digits = [number // 8**place % 8 for place in range(12)]
    quarters = np.array(digits, np.uint8).reshape(2, 2, 3) * 32 + 16
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(quarters.repeat(36, 0).repeat(36, 1)), 75)
    return jpeg


def write_archives(folder: Path, scale: float) -> None:
    """Write the three archives of images and the devkit; leave out what is there."""
    numbers = {split: max(NUM_CLASSES if split == "train" else 1, round(scale * count)) for split, count in NUM_IMAGES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    if not (train := folder / "ILSVRC2012_img_train.tar").exists():
        per_class = np.diff(np.linspace(0, numbers["train"], NUM_CLASSES + 1).astype(int))
        _write(
            train,
            (
                (f"{wnid}.tar", _class_tar(wnid, place, count))
                for place, (wnid, count) in enumerate(zip(WNIDS, per_class, strict=True))
            ),
        )
    for split in ("val", "test"):
        if not (archive := folder / f"ILSVRC2012_img_{split}.tar").exists():
            names = (f"ILSVRC2012_{split}_{number:08d}.JPEG" for number in range(1, numbers[split] + 1))
            _write(archive, ((name, draw(8**9 * (1 + (split == "test")) + number)) for number, name in enumerate(names)))
    truth = "".join(f"{1 + number % NUM_CLASSES}\n" for number in range(numbers["val"])).encode()
    inside = "ILSVRC2012_devkit_t12"
    files = {"readme.txt": b"", "data/meta.mat": _meta(), "data/ILSVRC2012_validation_ground_truth.txt": truth}
    _write(folder / f"{inside}.tar.gz", ((f"{inside}/{name}", data) for name, data in files.items()), "w:gz")


def _write(path: Path, files: Iterator[tuple[str, bytes]], mode: Any = "w") -> None:
    unfinished = path.with_name(f"{path.name}.partial")
    with tarfile.open(unfinished, mode, format=tarfile.GNU_FORMAT) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    unfinished.rename(path)


def _class_tar(wnid: str, place: int, count: int) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for number in range(1, count + 1):
            jpeg = draw(2000 * place + number)
            member = tarfile.TarInfo(f"{wnid}_{number}.JPEG")
            member.size = len(jpeg)
            tar.addfile(member, io.BytesIO(jpeg))
    return data.getvalue()


def _meta() -> bytes:
    """Return a meta.mat with a root above the classes."""
    names = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")
    synsets = np.empty((NUM_CLASSES + 1, 1), [(name, object) for name in names])
    for place, wnid in enumerate([*WNIDS, "n00001740"]):
        below = list(range(1, NUM_CLASSES + 1)) if place == NUM_CLASSES else []
        children = np.array(below, float).reshape(1, -1)
        height, words = float(bool(below)), f"thing {place}, {wnid}"
        synsets[place, 0] = (float(place + 1), wnid, words, f"what {place} is", float(len(below)), children, height, 1300.0)
    data = io.BytesIO()
    scipy.io.savemat(data, {"synsets": synsets}, do_compression=True)
    return data.getvalue()


class Watch(Thread):
    """Looks at this process and all below it now and then: their peak memory, and how many files they have open together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest_worker, self.open_files, self.stopped = 0, 0, Event()

    def run(self) -> None:
        """Look until it is stopped."""
        while not self.stopped.wait(SECONDS_BETWEEN_SAMPLES):
            found = list(_below(os.getpid()))
            self.largest_worker = max(self.largest_worker, *(_peak_bytes(process) for process in found[1:]), 0)
            self.open_files = max(self.open_files, sum(_open_files(process) for process in found))


def _below(process: int) -> Iterator[int]:
    yield process
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from _below(int(child))


def _peak_bytes(process: int) -> int:
    with suppress(OSError):
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return 0


def _open_files(process: int) -> int:
    with suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
    return 0


def measured(name: str, work: Callable[[], Any]) -> Any:
    """Do something; print a row of the table about it."""
    watch, start = Watch(), perf_counter()
    watch.start()
    try:
        return work()
    finally:
        watch.stopped.set()
        watch.join()
        seconds = perf_counter() - start
        own, worker = (f"{size / 1e9:.2f} GB" for size in (_peak_bytes(os.getpid()), watch.largest_worker))
        print(f"| {name} | {seconds:,.0f} s | {own} | {worker} | {watch.open_files:,} |", flush=True)


def networks(folder: Path, wnids: list[str]) -> list[Weights]:
    """Write seven networks that have learnt nothing."""
    paths = [folder / f"{seed}.safetensors" for seed in range(NUM_NETWORKS)]
    for seed, path in enumerate(paths):
        save_weights(AlexNet(NETWORK).initialise(seed), WeightsInfo(network=NETWORK, colours=COLOURS, wnids=wnids), path)
    return [open_weights(path) for path in paths]


def main() -> None:
    """Write the archives and measure every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the archives and the workspace; 4 GB at full scale")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the images")
    parser.add_argument("--cluster", help="address of a Dask scheduler whose workers do the work")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    print("| step | time | this process | largest worker | open files |\n|---|---|---|---|---|", flush=True)
    measured("write the archives", lambda: write_archives(folder / "archives", options.scale))
    source, config = IlsvrcSource(kind="ilsvrc2012", path=folder / "archives"), ShardConfig(storage="square72")
    compute = choose_compute("cpu", None)
    with locked(folder / "workspace", cluster=options.cluster) as workspace:
        sets = {
            split: measured(f"shard {split}", lambda split=split: shard_split.fn(source, split, config, workspace))
            for split in ("train", "val", "test")
        }
        for split, made in sets.items():
            report = measured(f"verify {split}", lambda made=made: verify_set.fn(made.path, False, None, workspace))
            if report.faults:
                raise SystemExit(str(report))
        members = networks(folder, list(ShardSet.open(sets["val"].path).wnids))
        predict = partial(predict_split.fn, members, sets["val"], "val", 10, compute, workspace)
        predictions = measured("predict val, 7 networks, 10 views", predict)
        rows = paper_rows("table2", 5, 2, 0)
        arguments = (rows, predictions, members, sets["val"], "val", 10, "ilsvrc2012", workspace)
        measured("tabulate", lambda: write_error_rates.fn(*arguments))
        measured("predict again", predict)


if __name__ == "__main__":
    main()
