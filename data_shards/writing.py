"""A plan in, shards out: tars, their DALI indexes, and their part of the lists; identical bytes for identical inputs.

Called by `tasks.workers.shard`, for each shard in any process and any order. A shard whose part of the lists is there is whole;
after a kill only the others are written. `data_shards.listing` joins the parts.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_shards.datasets.dataset import Dataset
from data_shards.images import BadImageError, parse_storage, store
from data_shards.planning import ShardConfig, ShardPlan

INDEX_VERSION = "v1.2"
"""[DALI wds2idx] The index format that names each component's file."""

EMPTY_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
"""Of a file without name and content: no user, no time."""

WRITE_BACK = 4 << 20
"""(ours) Bytes of a tar that are handed to the disk at once."""

SAMPLE_LIST = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("wnid", pa.string()),
        pa.field("class_index", pa.int32()),
        pa.field("name", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("mended", pa.string()),
        pa.field("orientation", pa.int8()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_offset", pa.int64()),
        pa.field("source_sha256", pa.string(), nullable=False),
    ]
)
"""The columns of `samples.parquet`; a row is a `WrittenSample`."""


class WrittenSample(NamedTuple):
    """One row of `samples.parquet`."""

    key: str
    wnid: str | None
    class_index: int | None
    name: str
    shard: str
    offset: int
    """Of the JPEG's first byte in the tar."""
    size: int
    """Of the JPEG in bytes."""
    height: int
    """Of the stored image in pixels."""
    width: int
    sha256: str
    """Of the JPEG."""
    mended: str | None
    """What the source was where it was not an RGB JPEG."""
    orientation: int | None
    """How EXIF would have it turned, 2 to 8; stored as it is. None for upright."""
    source: str
    """The archive or file that it was read from."""
    source_offset: int | None
    source_sha256: str
    """Of the file as it was read."""


class BadImage(NamedTuple):
    """A source that was left out, and why."""

    name: str
    wnid: str | None
    source: str
    source_offset: int | None
    reason: str

    def __str__(self) -> str:
        place = self.source if self.source_offset is None else f"{self.source} at byte {self.source_offset:,}"
        return f"{self.name}, class {self.wnid or 'unknown'} ({place}): {self.reason}"


class WrittenShard(NamedTuple):
    """What became of one shard."""

    samples: list[WrittenSample]
    bad_images: list[BadImage]
    source_bytes: int
    """Read to make it."""


def write_shard(dataset: Dataset, plan: ShardPlan, config: ShardConfig, directory: Path, work: Path) -> WrittenShard:
    """Write one tar and its index into `directory`, and its part of the lists into `work`. The same plan writes the same bytes.

    Where images cannot be decoded and `bad_images` is `error`, the rest of the shard is looked at and nothing is left of it.

    Raises:
        OSError: a source cannot be read, or the disk is full.
        ValueError: not one image of the shard can be decoded, and such images are to be left out.
    """
    partial = directory / f"{plan.name}.partial"
    with open(partial, "wb") as file:
        tar = Tar(file)
        written = _write_samples(tar, dataset, plan, config)
        digest = tar.finish()
        _sync(file)
    if written.bad_images and config.bad_images == "error":
        partial.unlink()
        return written
    if not written.samples:
        raise ValueError(f"not one of the {len(plan.samples):,} images planned for {plan.name} can be decoded")
    partial.rename(directory / plan.name)
    index = f"{INDEX_VERSION} {len(written.samples)}\n" + "".join(map(index_line, written.samples))
    _write_whole(directory / index_name(plan.name), lambda file: file.write(index.encode("ascii")))
    files = {
        plan.name: {"size": tar.offset, "sha256": digest},
        index_name(plan.name): {"size": len(index), "sha256": sha256(index.encode("ascii")).hexdigest()},
    }
    _write_part(written, files, part_path(plan.name, work))
    return written


def part_path(shard: str, work: Path) -> Path:
    """Return where a shard's part of the lists lies; it is there only when the shard is whole."""
    return work / "parts" / f"{shard}.parquet"


class Tar:
    """A tar whose headers hold nothing of the day or the user, hashed by a thread of its own while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.offset = 0
        self._on_its_way = 0
        self._sha256 = sha256()
        self._unhashed: list[bytes] = []
        self._thread = ThreadPoolExecutor(1)  # hashlib lets other threads run meanwhile

    def add(self, name: str, data: bytes) -> int:
        """Append a member; return where its data begin."""
        begin = self.offset + tarfile.BLOCKSIZE
        for part in (member_header(name, len(data)), data, bytes(-len(data) % tarfile.BLOCKSIZE)):
            self._write(part)  # one by one: joining them would copy an image once more
        return begin

    def hash(self, *files: bytes) -> "Future[list[str]]":
        """Have what was added so far hashed, and each of these files by itself; return the files' SHA-256."""
        unhashed, self._unhashed = self._unhashed, []
        return self._thread.submit(_hash, self._sha256, unhashed, files)

    def finish(self) -> str:
        """Write the end mark, filled up to a whole record; return the SHA-256 of it all."""
        self._write(bytes(filled_up(self.offset + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE) - self.offset))
        self.hash().result()
        self._thread.shutdown()
        return self._sha256.hexdigest()

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self._unhashed.append(data)
        self.offset += len(data)
        if self.offset - self._on_its_way > WRITE_BACK:
            self.file.flush()
            # The kernel begins to write to disk what lies there unwritten, so that flushing at the end waits for little.
            os.posix_fadvise(self.file.fileno(), self._on_its_way, self.offset - self._on_its_way, os.POSIX_FADV_DONTNEED)
            self._on_its_way = self.offset


def _hash(whole: "hashlib._Hash", parts: list[bytes], files: tuple[bytes, ...]) -> list[str]:
    for part in parts:
        whole.update(part)
    return [sha256(file).hexdigest() for file in files]


def member_header(name: str, size: int) -> bytes:
    """Return what `tarfile` writes for a file of this name (ASCII, at most 100 bytes) and size, in a quarter of its time."""
    header = bytearray(EMPTY_HEADER)
    header[: len(name)] = name.encode("ascii")
    header[124:135] = b"%011o" % size
    header[148:156] = b" " * 8  # the sum of the bytes counts itself as blanks
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


def index_name(shard: str) -> str:
    """`train-00000.idx` for `train-00000.tar`."""
    return shard.removesuffix(".tar") + ".idx"


def index_line(sample: WrittenSample) -> str:
    """Return one line of DALI's index: each component's kind, offset, size and name."""
    line = f"jpg {sample.offset} {sample.size} {sample.key}.jpg"
    if sample.class_index is None:
        return f"{line}\n"
    label_at = filled_up(sample.offset + sample.size) + tarfile.BLOCKSIZE
    return f"{line} cls {label_at} {len(str(sample.class_index))} {sample.key}.cls\n"


def filled_up(size: int, unit: int = tarfile.BLOCKSIZE) -> int:
    """Return where what ends at `size` ends when it is filled up to whole units."""
    return -(-size // unit) * unit


def _write_samples(tar: Tar, dataset: Dataset, plan: ShardPlan, config: ShardConfig) -> WrittenShard:
    storage = parse_storage(config.storage)
    written = WrittenShard([], [], 0)
    digests: list[Future[list[str]]] = []
    for key, class_index, sample in zip(plan.keys, plan.class_indices, plan.samples, strict=True):
        data = dataset.read(sample)
        written = written._replace(source_bytes=written.source_bytes + len(data))
        try:
            image = store(data, storage, config.check)
        except BadImageError as error:
            written.bad_images.append(BadImage(sample.name, sample.wnid, sample.path, sample.offset, str(error)))
            continue
        offset = tar.add(f"{key}.jpg", image.jpeg)
        if class_index is not None:
            tar.add(f"{key}.cls", str(class_index).encode("ascii"))
        digests.append(tar.hash(data) if image.jpeg is data else tar.hash(data, image.jpeg))
        written.samples.append(
            WrittenSample(
                key=key,
                wnid=sample.wnid,
                class_index=class_index,
                name=sample.name,
                shard=plan.name,
                offset=offset,
                size=len(image.jpeg),
                height=image.height,
                width=image.width,
                sha256="",
                mended=image.mended,
                orientation=image.orientation,
                source=Path(sample.path).name,
                source_offset=sample.offset,
                source_sha256="",
            )
        )
    found = zip(written.samples, (digest.result() for digest in digests), strict=True)
    samples = [sample._replace(sha256=sums[-1], source_sha256=sums[0]) for sample, sums in found]
    return written._replace(samples=samples)


def _write_part(written: WrittenShard, files: dict[str, Any], path: Path) -> None:
    about = json.dumps({"files": files, "bad_images": written.bad_images})
    columns = zip(*written.samples, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SAMPLE_LIST, strict=True)]
    table = pa.table(arrays, schema=SAMPLE_LIST.with_metadata({"about": about}))
    path.parent.mkdir(exist_ok=True)
    _write_whole(path, lambda file: pq.write_table(table, file))


def _write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its name, flush it, and give it its name."""
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "wb") as file:
        write(file)
        _sync(file)
    partial.rename(path)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
