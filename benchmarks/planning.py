"""Planning the largest release, against limits of time and memory: `python -m benchmarks.planning`.

As many samples as in ImageNet's release of fall 2011, from a synthetic list of members: no image is read. A new process reads
the list and plans the shards, as `tasks.workers.plan` does. Time and peak memory are those of the whole process.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.record import ROOT, record
from data_shards.datasets.fall import FALL2011, Fall
from data_shards.datasets.members import MEMBERS, ROWS_AT_ONCE
from data_shards.planning import ShardConfig, plan_shards

NUM_IMAGES = 14_197_122
NUM_CLASSES = 21_841
MAX_SECONDS = 60
MAX_GIGABYTES = 4
ARCHIVE = "fall11_whole.tar"
BYTES_AN_IMAGE = 110_000


def write_made_up_members(path: Path, num_images: int) -> None:
    """Write a list of members as a scan would: class after class, the classes and their images in any order."""
    numbers = np.random.default_rng(0).choice(np.arange(10_000, 15_000_000), NUM_CLASSES, replace=False)
    wnids = pa.array([f"n{number:08d}" for number in numbers])
    with pq.ParquetWriter(path, MEMBERS, compression="zstd") as writer:
        for start in range(0, num_images, ROWS_AT_ONCE):
            rows = np.arange(start, min(start + ROWS_AT_ONCE, num_images))
            folders = pa.DictionaryArray.from_arrays((rows * NUM_CLASSES // num_images).astype(np.int32), wnids)
            names = pc.binary_join_element_wise(
                folders.dictionary_decode(), pa.array(rows * 7_919 % 99_991).cast(pa.string()), "_"
            )
            names = pc.binary_join_element_wise(names, ".JPEG", "")
            archives = pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int32), pa.array([""]))
            places, sizes = pa.array(rows * BYTES_AN_IMAGE), pa.array(np.full(len(rows), BYTES_AN_IMAGE - 512))
            writer.write_table(pa.table([archives, folders, names, places, sizes], schema=MEMBERS))


def plan(directory: Path) -> None:
    """Plan the training split; this is measured."""
    archive = directory / ARCHIVE
    dataset = Fall(FALL2011, directory, lists={archive: directory / "members.parquet"})
    made = plan_shards(dataset, "train", ShardConfig(), directory)
    print(f"  {made.num_samples:,} samples of {len(dataset.classes()):,} classes in {len(made):,} shards", flush=True)


def plan_at_scale(num_images: int) -> None:
    """Write a list, plan it in a child process, and record its time and its peak memory against the limits."""
    with tempfile.TemporaryDirectory(prefix="benchmark-planning-") as directory:
        print(f"writing a list of {num_images:,} images", flush=True)
        (Path(directory) / ARCHIVE).touch()
        write_made_up_members(Path(directory) / "members.parquet", num_images)
        start = perf_counter()
        subprocess.run([sys.executable, "-m", "benchmarks.planning", "--plan", directory], cwd=ROOT, check=True)
        seconds = perf_counter() - start
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    print(f"  {seconds:.1f} s, {gigabytes:.2f} GB at most", flush=True)
    unit = f"samples/s, {num_images:,} in {seconds:.1f} s"
    record("planning", "a plan against its limit of a minute", num_images / seconds, NUM_IMAGES / MAX_SECONDS, 1.0, unit)
    unit = f"samples/GB of peak memory, {num_images:,} in {gigabytes:.2f} GB"
    record("planning", "a plan against its limit of 4 GB", num_images / gigabytes, NUM_IMAGES / MAX_GIGABYTES, 1.0, unit)


def main() -> None:
    """Measure and record; plan, if this is the child."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--num-images", type=int, default=NUM_IMAGES, help="how many the list holds")
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plan:
        plan(arguments.plan)
    else:
        plan_at_scale(arguments.num_images)


if __name__ == "__main__":
    main()
