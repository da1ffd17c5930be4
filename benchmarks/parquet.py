"""Sharding 100,000 images from Parquet files within a gigabyte: `python -m benchmarks.parquet`.

Images of about 10 kB in row groups of 100 and of 10,000 are copied to a plain tar, listed, planned and sharded, each time in
one new process. Its peak memory and what it read and wrote are compared with the size of the file.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from data_shards.datasets.parquet import ParquetSource
from data_shards.datasets.scanning import Scan, write_members
from data_shards.listing import write_lists
from data_shards.planning import ShardConfig, plan_shards
from data_shards.writing import write_shard

CONFIG = ShardConfig(storage="original")
NUM_CLASSES, SIDE, NUM_DRAWN = 100, 64, 64
ROW_GROUP_SIZES = (100, 10_000)
LIMIT = 1e9
"""Bytes of memory."""


class Done(NamedTuple):
    """What a process needed."""

    num_images: int
    seconds: float
    peak_memory: int
    read: int
    written: int


def images(num_images: int) -> Iterator[bytes]:
    """Yield different JPEGs of noise: some are drawn, and a comment makes each one different."""
    generator = np.random.default_rng(0)
    drawn = [simplejpeg.encode_jpeg(generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8), 95) for _ in range(NUM_DRAWN)]
    for n in range(num_images):
        jpeg, comment = drawn[n % NUM_DRAWN], b"%010d" % n
        yield jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + jpeg[2:]  # [ITU T.81 B.2.4.5] COM


def write_parquet(path: Path, num_images: int, row_group_size: int) -> None:
    """Write the images as `datasets` does: uncompressed and plain."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": [f"class {n}" for n in range(NUM_CLASSES)], "_type": "ClassLabel"},
    }
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    found, start = images(num_images), 0
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        while some := list(islice(found, row_group_size)):
            rows = range(start, start + len(some))
            columns = [
                [{"bytes": data, "path": f"{n}.jpg"} for n, data in zip(rows, some, strict=True)],
                [n % NUM_CLASSES for n in rows],
            ]
            writer.write_table(pa.table(columns, schema=schema), row_group_size)
            start = rows.stop


def shard(root: Path) -> Done:
    """Shard the files as the workers do, one step after another; return what it took."""
    start, before = perf_counter(), _bytes()
    (archive,) = ParquetSource(path=root).open(root / "copies").archives("train")
    members = root / "members.parquet"
    for _ in write_members(Scan(archive), members):
        pass
    dataset = ParquetSource(path=root).open(root / "copies", {archive: members})
    work, directory = root / "work", root / "shards"
    work.mkdir()
    directory.mkdir()
    for plan in plan_shards(dataset, "train", CONFIG, work):
        write_shard(dataset, plan, CONFIG, directory, work)
    write_lists(dataset, directory, work)
    num_images = pq.read_metadata(directory / "samples.parquet").num_rows
    read, written = (after - earlier for after, earlier in zip(_bytes(), before, strict=True))
    return Done(num_images, perf_counter() - start, _peak_memory(), read, written)


def _peak_memory() -> int:
    status = Path("/proc/self/status").read_text("ascii")  # not getrusage, which has that of the parent too
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _bytes() -> tuple[int, int]:
    """Return what this process has read and written, whether from a disk or from memory."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text("ascii").splitlines())
    return int(lines["rchar"]), int(lines["wchar"])


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--num-images", type=int, default=100_000)
    num_images = parser.parse_args().num_images
    from benchmarks.record import record  # torch, which a process that is measured does not need

    for row_group_size in ROW_GROUP_SIZES:
        with tempfile.TemporaryDirectory(prefix="benchmark-parquet-") as name:
            file = Path(name) / "train-00000-of-00001.parquet"
            write_parquet(file, num_images, row_group_size)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                done = process.submit(shard, Path(name)).result()
            if done.num_images != num_images:
                raise RuntimeError(f"sharded {done.num_images:,} of {num_images:,} images")
            what = f"{num_images:,} images in row groups of {row_group_size:,}"
            print(f"{what}: {done.num_images / done.seconds:,.0f} images/s, file of {file.stat().st_size:,} bytes", flush=True)
            record("parquet", f"{what}: memory, limit against peak", LIMIT, done.peak_memory, 1.0, "bytes")
            record("parquet", f"{what}: bytes read against those of the file", done.read, file.stat().st_size, None, "bytes")
            record(
                "parquet", f"{what}: bytes written against those of the file", done.written, file.stat().st_size, None, "bytes"
            )


if __name__ == "__main__":
    main()
