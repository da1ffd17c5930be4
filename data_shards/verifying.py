"""A finished set to its faults: compare every shard with its list, its index and its manifest.

Called by `tasks.workers.verify`, for each shard in any process.
"""

from collections.abc import Iterator
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tarfile import BLOCKSIZE, RECORDSIZE, HeaderError, TarInfo

import pyarrow as pa

from data_shards.decoding import BadImageError, decode_jpeg
from data_shards.shard_format import WrittenSample, filled_up, index_file, index_line, index_name

MAX_FAULTS_NAMED = 3
"""Faults of one shard that are listed; the others are counted."""


def verify_shard(rows: pa.Table, directory: Path, sha256_of: dict[str, str], decode: bool) -> Iterator[str]:
    """Yield each fault of one shard, given its rows of `samples.parquet` and the SHA-256 of its files."""
    samples = [WrittenSample(*row) for row in zip(*(rows[name].to_pylist() for name in WrittenSample._fields), strict=True)]
    name = samples[0].shard
    for file in (name, index_name(name)):
        if not (directory / file).is_file():
            yield f"{file} is missing"
            return
    yield from _verify_index(samples, directory / index_name(name), sha256_of[index_name(name)])
    if (directory / name).stat().st_size == 0:
        yield f"{name} is empty"
        return
    with open(directory / name, "rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as tar:
        yield from _verify_tar(samples, tar, sha256_of[name], decode)


def _verify_index(samples: list[WrittenSample], path: Path, expected: str) -> Iterator[str]:
    found = path.read_bytes()
    if found != index_file([index_line(sample) for sample in samples]):
        yield f"{path.name} differs from samples.parquet"
    elif sha256(found).hexdigest() != expected:
        yield f"{path.name} differs from its checksum in the manifest"


def _verify_tar(samples: list[WrittenSample], tar: mmap, expected: str, decode: bool) -> Iterator[str]:
    name = samples[0].shard
    intact = sha256(tar).hexdigest() == expected
    faults = list(_verify_members(samples, tar, hashes=not intact))
    if not intact and not faults:
        faults = ["differs from its checksum in the manifest, in a header or after its last member"]
    if decode and intact:
        faults += _verify_pixels(samples, tar)
    yield from (f"{name} {fault}" for fault in faults[:MAX_FAULTS_NAMED])
    if len(faults) > MAX_FAULTS_NAMED:
        yield f"{name} has {len(faults) - MAX_FAULTS_NAMED:,} more faults"


def _verify_members(samples: list[WrittenSample], tar: mmap, hashes: bool) -> Iterator[str]:
    """Yield each member that does not follow the one before it with its name and size; with `hashes`, compare its content."""
    end = 0
    for sample in samples:
        data = tar[sample.offset : sample.offset + sample.size]
        if sample.offset != end + BLOCKSIZE or not _is_member(tar, end, f"{sample.key}.jpg", sample.size):
            yield f"does not hold {sample.key}.jpg at byte {sample.offset:,} as listed"
        elif hashes and sha256(data).hexdigest() != sample.sha256:
            yield f"holds a changed {sample.key}.jpg, at byte {sample.offset:,}"
        end = filled_up(sample.offset + sample.size)
        if sample.class_index is not None:
            label = str(sample.class_index).encode("ascii")
            begin = end + BLOCKSIZE
            if not _is_member(tar, end, f"{sample.key}.cls", len(label)) or tar[begin : begin + len(label)] != label:
                yield f"does not label {sample.key} as class {sample.class_index}"
            end = filled_up(begin + len(label))
    expected = filled_up(end + 2 * BLOCKSIZE, RECORDSIZE)
    if len(tar) != expected:
        yield f"holds {len(tar):,} bytes, expected {expected:,}"


def _is_member(tar: mmap, at: int, name: str, size: int) -> bool:
    try:
        member = TarInfo.frombuf(tar[at : at + BLOCKSIZE], "utf-8", "surrogateescape")
    except HeaderError:
        return False
    return (member.name, member.size) == (name, size)


def _verify_pixels(samples: list[WrittenSample], tar: mmap) -> Iterator[str]:
    for sample in samples:
        try:
            height, width, _ = decode_jpeg(tar[sample.offset : sample.offset + sample.size]).shape
        except BadImageError as error:
            yield f"holds {sample.key}.jpg, which cannot be decoded: {error}"
        else:
            if (height, width) != (sample.height, sample.width):
                yield f"holds {sample.key}.jpg of {width} × {height} pixels, listed as {sample.width} × {sample.height}"
