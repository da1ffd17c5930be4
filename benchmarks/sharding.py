"""Our writer against the obvious ones: `python -m benchmarks.sharding`.

All sides read the same full-size photographs from the page cache and write shards to the same disk; ours checks, hashes, lists and
flushes them besides. Each side's processes are started once; its first round, which is not counted, warms them up.
"""

import argparse
import io
import os
import resource
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
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

# What is heavy and belongs to one side is imported where it is used: every process imports this module, and its memory counts.

SIDE = 256
SAMPLES_PER_SHARD = 250


class Done(NamedTuple):
    """What a process has written so far."""

    num_images: int
    peak_memory: int  # bytes, of the process since it was started


def ours(dataset: Photographs, config: ShardConfig, work: Path, directory: Path, numbers: range) -> Done:
    """Write shards as `tasks.workers.shard` does."""
    cv2.setNumThreads(1)
    plan = Plan(work)
    written = [write_shard(dataset, plan[number], config, directory, directory) for number in numbers]
    return Done(sum(len(shard.samples) for shard in written), _peak_memory())


def webdataset_with_pillow(samples: list[Sample], directory: Path) -> Done:
    """Write squares as people write them."""
    return _webdataset(samples, directory, _pillow_square)


def webdataset_as_it_is(samples: list[Sample], directory: Path) -> Done:
    """Write the files' own bytes."""
    return _webdataset(samples, directory, bytes)


def _webdataset(samples: list[Sample], directory: Path, convert: Callable[[bytes], bytes]) -> Done:
    import webdataset

    pattern = f"{directory}/{os.getpid()}-%05d.tar"
    with webdataset.ShardWriter(pattern, maxcount=SAMPLES_PER_SHARD, verbose=0) as writer:
        for sample in samples:
            label = int(sample.wnid[-1])
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


def bare_loop(samples: list[Sample], directory: Path, num_threads: int) -> Done:
    """Decode, scale, encode and put into a tar, and nothing else."""
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
    """Decode and write nothing."""
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
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Bench:
    def __init__(self, dataset, workspace):
        self.dataset, self.workspace = dataset, workspace
        self.samples = dataset.rows()
        self.pools = {}
        self.peaks = {}

    def pool(self, name, n):
        if name not in self.pools:
            self.pools[name] = ProcessPoolExecutor(n, mp_context=get_context("spawn"))
        return self.pools[name]

    def rate(self, name, n, jobs):
        directory = Path(tempfile.mkdtemp(dir=self.workspace))
        pool = self.pool(name, n)
        start = perf_counter()
        done = list(pool.map(_call, [partial(job, directory=directory) for job in jobs]))
        elapsed = perf_counter() - start
        assert sum(d.num_images for d in done) == len(self.samples)
        self.peaks[name] = max(d.peak_memory for d in done)
        shutil.rmtree(directory)
        return len(self.samples) / elapsed


def _call(job):
    return job()


if __name__ == "__main__":
    import sys
    from benchmarks.record import alternate

    num = int(sys.argv[1])
    mode = sys.argv[2]
    rounds = int(sys.argv[3])
    with tempfile.TemporaryDirectory(dir=sys.argv[4] if len(sys.argv) > 4 else None) as w:
        w = Path(w)
        tar = Photographs(PHOTOGRAPHS, num)
        files = w / "files"
        files.mkdir()
        for s in tar.rows():
            (files / s.name).write_bytes(_read(s))
        ds = tar if mode == "square" else Photographs(files, num)
        b = Bench(ds, w)

        def planned(config):
            work = Path(tempfile.mkdtemp(dir=w))
            plan = plan_shards(ds, "train", config, work)
            return work, len(plan)

        def our(name, config, n):
            work, shards = planned(config)
            return partial(b.rate, name, n, [partial(ours, ds, config, work, numbers=range(k, shards, n)) for k in range(n)])

        S = b.samples
        if mode == "square":
            c = ShardConfig(storage="square256", samples_per_shard=SAMPLES_PER_SHARD)
            sides = {
                "ours 1": our("ours 1", c, 1),
                "ours 2": our("ours 2", c, 2),
                "pillow": partial(b.rate, "pillow", 1, [partial(webdataset_with_pillow, S)]),
                "bare": partial(b.rate, "bare", 1, [partial(bare_loop, S, num_threads=2)]),
            }
        else:
            c = ShardConfig(storage="original", samples_per_shard=SAMPLES_PER_SHARD, check=False)
            c2 = ShardConfig(storage="original", samples_per_shard=SAMPLES_PER_SHARD)
            sides = {
                "ours 1": our("ours 1", c, 1),
                "wds 1": partial(b.rate, "wds 1", 1, [partial(webdataset_as_it_is, S)]),
                "cp 1": partial(b.rate, "cp 1", 1, [partial(copied, S)]),
                "ours 2": our("ours 2", c, 2),
                "wds 2": partial(b.rate, "wds 2", 2, [partial(webdataset_as_it_is, S[k::2]) for k in range(2)]),
                "cp 2": partial(b.rate, "cp 2", 2, [partial(copied, S[k::2]) for k in range(2)]),
                "checked": our("checked", c2, 1),
                "decoded": partial(b.rate, "decoded", 1, [partial(decoded, S)]),
            }
        r = alternate(sides, rounds)
        print(r, {k: v >> 20 for k, v in b.peaks.items()})
        for p in b.pools.values():
            p.shutdown()
