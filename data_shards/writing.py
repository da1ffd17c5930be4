"""A plan to shards: tars, their DALI indexes, and their parts of the list of samples; equal inputs give equal bytes.

Called by `tasks.workers.shard`, for each shard in any process and any order. A shard is complete when its part of the list
exists; after a kill only the others are written. `data_shards.listing` joins the parts.
"""

import json
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow.parquet as pq

from base.errors import InputError
from base.files import atomic_write
from data_shards.datasets.dataset import Dataset
from data_shards.decoding import BadImageError
from data_shards.images import store
from data_shards.planning import ShardConfig, ShardPlan
from data_shards.shard_format import (
    SAMPLE_LIST,
    BadImage,
    WrittenSample,
    as_table,
    filled_up,
    index_file,
    index_line,
    index_name,
    part_path,
)
from data_shards.storage import parse_storage

EMPTY_HEADER = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
"""Of a file without name and content: no user, no time."""


class WrittenShard(NamedTuple):
    """What became of one shard."""

    samples: list[WrittenSample]
    bad_images: list[BadImage]
    source_bytes: int
    """Read to make it."""


def write_shard(dataset: Dataset, plan: ShardPlan, config: ShardConfig, directory: Path, work: Path) -> WrittenShard:
    """Write one tar and its index into `directory`, and its part of the list into `work`. The same plan writes the same bytes.

    If images cannot be decoded and `bad_images` is `error`, find all of them and remove the tar.

    Raises:
        InputError: a source cannot be read, or none of the images can be decoded and `bad_images` is `report`.
        OSError: the disk is full.
    """
    with atomic_write(directory / plan.name) as file:
        tar = Tar(file)
        written = _write_samples(tar, dataset, plan, config)
        tar.finish()
    if written.bad_images and config.bad_images == "error":
        (directory / plan.name).unlink(missing_ok=True)
        return written
    if not written.samples:
        raise InputError(
            f"none of the {len(plan.samples):,} images planned for {plan.name} can be decoded, the first is "
            f"{written.bad_images[0]}; check the source, or put more images into a shard"
        )
    index = index_file([index_line(sample) for sample in written.samples])
    with atomic_write(directory / index_name(plan.name)) as file:
        file.write(index)
    files = {
        plan.name: {"size": tar.offset, "sha256": tar.sha256.hexdigest()},
        index_name(plan.name): {"size": len(index), "sha256": sha256(index).hexdigest()},
    }
    _write_part(written, files, part_path(plan.name, work))
    return written


class Tar:
    """A tar whose headers hold neither time nor user, hashed while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.offset = 0
        self.sha256 = sha256()

    def add(self, name: str, data: bytes) -> int:
        """Append a member; return the offset of its data."""
        begin = self.offset + tarfile.BLOCKSIZE
        for part in (member_header(name, len(data)), data, bytes(-len(data) % tarfile.BLOCKSIZE)):
            self._write(part)  # one by one: joining them would copy the image once more
        return begin

    def finish(self) -> None:
        """Write the end mark, filled up to a whole record."""
        self._write(bytes(filled_up(self.offset + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE) - self.offset))

    def _write(self, data: bytes) -> None:
        self.file.write(data)
        self.sha256.update(data)
        self.offset += len(data)


def member_header(name: str, size: int) -> bytes:
    """Return the header that `tarfile` writes for a name (ASCII, at most 100 bytes) and a size, in a quarter of its time."""
    header = bytearray(EMPTY_HEADER)
    header[: len(name)] = name.encode("ascii")
    header[124:135] = b"%011o" % size
    header[148:156] = b" " * 8  # the checksum counts its own bytes as blanks
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


def _write_samples(tar: Tar, dataset: Dataset, plan: ShardPlan, config: ShardConfig) -> WrittenShard:
    storage = parse_storage(config.storage)
    written = WrittenShard([], [], 0)
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
        digest, unchanged = sha256(data).hexdigest(), image.jpeg is data
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
                sha256=digest if unchanged else sha256(image.jpeg).hexdigest(),
                mended=image.mended,
                orientation=image.orientation,
                source=Path(sample.path).name,
                source_offset=sample.offset,
                source_sha256=digest,
            )
        )
    return written


def _write_part(written: WrittenShard, files: dict[str, Any], path: Path) -> None:
    about = json.dumps({"files": files, "bad_images": written.bad_images})
    path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as file:
        pq.write_table(as_table(written.samples, SAMPLE_LIST.with_metadata({"about": about})), file)
