"""Our writer against the usual ones: `python -m benchmarks.sharding`.

All sides read the same full-size photographs from the page cache and write shards to the same disk. Ours also checks, hashes,
lists and flushes them. The processes of a side are started once; a first round warms them up and is not counted.
"""

import argparse
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.photographs import PHOTOGRAPHS, Photographs
from data_shards.datasets.dataset import Sample
from data_shards.images import QUALITY
from data_shards.planning import Plan, ShardConfig, plan_shards
from data_shards.writing import write_shard

# Every process imports this module, and its memory counts: heavy imports of one side are in its functions.

Job = Callable[..., "Done"]
"""Writes the part of one process into the folder `directory`."""

SIDE = 256
SAMPLES_PER_SHARD = 250


class Done(NamedTuple):
    """What a process has written."""

    num_images: int
    peak_memory: int  # bytes, of the process since its start


def our_writer(dataset: Photographs, config: ShardConfig, work: Path, numbers: range, directory: Path) -> Done:
    """Write shards as `tasks.workers.shard` does."""
    cv2.setNumThreads(1)
    plan = Plan(work)
    written = [write_shard(dataset, plan[number], config, directory, directory) for number in numbers]
    return Done(sum(len(shard.samples) for shard in written), _peak_memory())


def webdataset_with_pillow(samples: list[Sample], directory: Path) -> Done:
    """Write squares with Pillow and webdataset."""
    return _webdataset(samples, directory, _pillow_square)


def webdataset_as_it_is(samples: list[Sample], directory: Path) -> Done:
    """Write the unchanged files with webdataset."""
    return _webdataset(samples, directory, bytes)


def _webdataset(samples: list[Sample], directory: Path, convert: Callable[[bytes], bytes]) -> Done:
    import webdataset

    pattern = f"{directory}/{os.getpid()}-%05d.tar"
    with webdataset.ShardWriter(pattern, maxcount=SAMPLES_PER_SHARD, verbose=0) as writer:
        for sample in samples:
            label = int(sample.wnid[-1]) if sample.wnid else 0
            writer.write({"__key__": Path(sample.name).stem, "jpg": convert(_read(sample)), "cls": label})
    return Done(len(samples), _peak_memory())


def _pillow_square(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    scale = SIDE / min(image.size)
    image = image.resize(
        (max(SIDE, round(image.width * scale)), max(SIDE, round(image.height * scale))), Image.Resampling.BICUBIC
    )
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    stored = io.BytesIO()
    image.crop((left, top, left + SIDE, top + SIDE)).save(stored, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return stored.getvalue()


def bare_loop(samples: list[Sample], num_threads: int, directory: Path) -> Done:
    """Decode, scale, encode and write into a tar, and nothing else."""
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(num_threads) as pool, tarfile.open(directory / "bare.tar", "w") as tar:
        for sample, jpeg in zip(samples, pool.map(_bare_square, samples), strict=True):
            member = tarfile.TarInfo(sample.name)
            member.size = len(jpeg)
            tar.addfile(member, io.BytesIO(jpeg))
    return Done(len(samples), _peak_memory())


def _bare_square(sample: Sample) -> bytes:
    pixels = simplejpeg.decode_jpeg(_read(sample), "RGB")
    height, width = pixels.shape[:2]
    scale = SIDE / min(height, width)
    size = max(SIDE, round(width * scale)), max(SIDE, round(height * scale))
    scaled = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (size[1] - SIDE) // 2, (size[0] - SIDE) // 2
    jpeg: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(scaled[top : top + SIDE, left : left + SIDE]), QUALITY, "RGB", "420"
    )
    return jpeg


def copied(samples: list[Sample], directory: Path) -> Done:
    """Copy the files with `cp`."""
    subprocess.run(["cp", *(sample.path for sample in samples), str(directory)], check=True)
    return Done(len(samples), 0)


def decoded(samples: list[Sample], directory: Path) -> Done:
    """Decode, and write nothing."""
    del directory
    for sample in samples:
        simplejpeg.decode_jpeg(_read(sample), "RGB")
    return Done(len(samples), _peak_memory())


def _read(sample: Sample) -> bytes:
    with open(sample.path, "rb") as file:
        if sample.offset is None:
            return file.read()
        file.seek(sample.offset)
        return file.read(sample.size)


def _peak_memory() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


class Side:
    """One side of a comparison: its processes, and the job of each in a round."""

    def __init__(self, name: str, jobs: list[Job], num_images: int, workspace: Path) -> None:
        self.name, self.jobs, self.num_images, self.workspace = name, jobs, num_images, workspace
        self.processes = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in jobs]
        self.peak_memory = 0

    def rate(self) -> float:
        """Run all jobs side by side; return images a second."""
        directory = Path(tempfile.mkdtemp(dir=self.workspace))
        start = perf_counter()
        at_work = [process.submit(job, directory=directory) for process, job in zip(self.processes, self.jobs, strict=True)]
        done = [each.result() for each in at_work]
        seconds = perf_counter() - start
        shutil.rmtree(directory)
        if sum(part.num_images for part in done) != self.num_images:
            raise RuntimeError(f"{self.name} wrote {done}, expected {self.num_images:,} images")
        self.peak_memory = max(self.peak_memory, *(part.peak_memory for part in done))
        return self.num_images / seconds

    def stop(self) -> None:
        """Stop the processes."""
        for process in self.processes:
            process.shutdown()


class Bench:
    """Makes the sides, all of the same photographs."""

    def __init__(self, source: Path, num_images: int, workspace: Path) -> None:
        self.dataset, self.workspace = Photographs(source, num_images), workspace
        self.samples = self.dataset.rows()

    def ours(self, name: str, config: ShardConfig, processes: int) -> Side:
        """Return our writer, its shards divided among processes."""
        work = Path(tempfile.mkdtemp(dir=self.workspace))
        plan = plan_shards(self.dataset, "train", config, work)
        numbers = [range(first, len(plan), processes) for first in range(processes)]
        jobs = [partial(our_writer, self.dataset, config, work, each) for each in numbers]
        return self._side(name, jobs)

    def theirs(self, name: str, write: Callable[..., Done], processes: int, **options: int) -> Side:
        """Return another writer, the samples divided among processes."""
        return self._side(name, [partial(write, self.samples[first::processes], **options) for first in range(processes)])

    def _side(self, name: str, jobs: list[Job]) -> Side:
        return Side(name, jobs, len(self.samples), self.workspace)


def measure_squares(bench: Bench, rounds: int) -> None:
    """Measure and record the comparisons of `square256`."""
    config = ShardConfig(storage=f"square{SIDE}", samples_per_shard=SAMPLES_PER_SHARD)
    rates = measured(
        [
            bench.ours("ours", config, 1),
            bench.ours("ours on two", config, 2),
            bench.theirs("pillow", webdataset_with_pillow, 1),
            bench.theirs("bare", bare_loop, 1, num_threads=2),
        ],
        rounds,
    )
    say = _recorder(f"square{SIDE}", rates, bench)
    say("against Pillow and webdataset, one process each", "ours", "pillow", 1.6)
    say("on two processes against one", "ours on two", "ours", 1.8)
    say("on two processes against a bare loop with cv2 on two threads", "ours on two", "bare", 0.95)


def measure_originals(bench: Bench, rounds: int) -> None:
    """Measure and record the comparisons of `original`."""
    config = ShardConfig(storage="original", samples_per_shard=SAMPLES_PER_SHARD)
    unchecked = config.model_copy(update={"check": False})
    rates = measured(
        [
            bench.ours("ours", unchecked, 1),
            bench.theirs("webdataset", webdataset_as_it_is, 1),
            bench.theirs("cp", copied, 1),
            bench.ours("ours, checked", config, 1),
            bench.theirs("decoder", decoded, 1),
        ],
        rounds,
    )
    say = _recorder("original", rates, bench)
    say("unchecked against webdataset, one process each", "ours", "webdataset", 1.5)
    say("unchecked against cp, one process each", "ours", "cp", 0.9)
    say("checked against decoding alone, one process each", "ours, checked", "decoder", None)


def measured(sides: list[Side], rounds: int) -> dict[str, float]:
    """Return the median rate of each side; print the peak memory of its processes."""
    from benchmarks.record import alternate

    rates = alternate({side.name: side.rate for side in sides}, rounds)
    for side in sides:
        side.stop()
        print(f"  peak memory of a process: {side.name} {side.peak_memory >> 20:,} MiB", flush=True)
    return rates


def _recorder(storage: str, rates: dict[str, float], bench: Bench) -> Callable[[str, str, str, float | None], None]:
    from benchmarks.record import record

    unit = f"images/s of {len(bench.samples):,} photographs"

    def say(what: str, ours: str, theirs: str, target: float | None) -> None:
        record("sharding", f"{storage} {what}", rates[ours], rates[theirs], target, unit)

    return say


def main() -> None:
    """Measure and record."""
    from benchmarks.record import run_as

    arguments = _arguments()
    run_as("shard")
    with tempfile.TemporaryDirectory(prefix="benchmark-sharding-") as name:
        workspace = Path(name)
        measure_squares(Bench(arguments.images, arguments.num_images, workspace), arguments.rounds)
        files = workspace / "files"  # cp copies files, so all sides read files
        files.mkdir()
        for sample in Photographs(arguments.images, arguments.num_images).rows():
            (files / sample.name).write_bytes(_read(sample))
        measure_originals(Bench(files, arguments.num_images, workspace), arguments.rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--images", type=Path, default=PHOTOGRAPHS, help=f"a tar or a folder of photographs, instead of {PHOTOGRAPHS}"
    )
    parser.add_argument("--num-images", type=int, default=1000, help="how many to write, repeated if there are fewer")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side to take the median of")
    return parser.parse_args()


if __name__ == "__main__":
    main()
