"""Samples in, shards out: tars, their DALI indexes, and the lists over them; identical bytes for identical inputs.

Called by `tasks.workers.shard`: `plan_shards` decides what goes where, `write_shard` writes one of them in any process and any
order, `write_lists` closes the set.
"""

import io
import os
import re
import tarfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from data_shards.datasets.dataset import Dataset, Sample, Split
from data_shards.images import BadImageError, Storage, store

INDEX_VERSION = "v1.2"
"""[DALI wds2idx] The index format that names each component's file."""


class ShardConfig(BaseModel):
    """How a split is cut into shards."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    side: int = Field(256, ge=64, le=4096)
    """[K12 §2] Side in pixels of the stored squares."""

    samples_per_shard: int = Field(1000, gt=0)
    """(ours) About 32 MB a shard at 256 × 256."""

    seed: int = Field(0, ge=0)
    """(ours) Of the shuffle over the whole split."""

    bad_images: Literal["error", "report"] = "error"
    """(ours) `error` stops at an image that cannot be decoded; `report` leaves it out and lists it."""


class ShardPlan(NamedTuple):
    """One shard to be written: which samples, under which keys."""

    name: str
    keys: list[str]
    samples: list[Sample]


class WrittenSample(NamedTuple):
    """One row of `samples.parquet`."""

    key: str
    wnid: str
    class_index: int
    name: str
    shard: str
    offset: int
    """Of the JPEG's first byte in the tar."""
    size: int
    """Of the JPEG in bytes."""
    sha256: str
    """Of the JPEG."""
    mended: str | None
    """What the source was where it was not an RGB JPEG."""


class BadImage(NamedTuple):
    """A source that was left out, and why."""

    name: str
    wnid: str
    source: str
    reason: str


class WrittenShard(NamedTuple):
    """What one shard holds."""

    samples: list[WrittenSample]
    bad_images: list[BadImage]


def plan_shards(dataset: Dataset, split: Split, config: ShardConfig) -> list[ShardPlan]:
    """Shuffle the whole split by the seed and cut it into shards.

    Raises:
        ValueError: the split holds no image.
    """
    samples = dataset.samples(split)
    if not samples:
        raise ValueError(f"{dataset.name} holds no image for the split {split}; expected at least one")
    order = np.random.Generator(np.random.PCG64(config.seed)).permutation(len(samples))
    keys = sample_keys(samples)
    starts = range(0, len(samples), config.samples_per_shard)
    chunks = [order[start : start + config.samples_per_shard] for start in starts]
    return [
        ShardPlan(f"{split}-{number:05d}.tar", [keys[i] for i in chunk], [samples[i] for i in chunk])
        for number, chunk in enumerate(chunks)
    ]


def sample_keys(samples: list[Sample]) -> list[str]:
    """Return one key a sample, WNID and the original stem, distinct, in letters, digits, `_` and `-`."""
    plain = [_plain_key(sample) for sample in samples]
    seen = Counter(plain)
    return [key if seen[key] == 1 else _marked_key(sample, key) for key, sample in zip(plain, samples, strict=True)]


def write_shard(dataset: Dataset, plan: ShardPlan, config: ShardConfig, directory: Path) -> WrittenShard:
    """Write one tar and its index; return their rows. The same plan writes the same bytes.

    Raises:
        BadImageError: an image cannot be decoded and `bad_images` is `error`.
        ValueError: no image of the shard could be decoded.
    """
    class_indices = {wnid: index for index, (wnid, _) in enumerate(dataset.classes())}
    written = WrittenShard([], [])
    lines: list[str] = []
    with open(directory / plan.name, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for key, sample in zip(plan.keys, plan.samples, strict=True):
                try:
                    image = store(dataset.read(sample), Storage("square", config.side))
                except BadImageError as error:
                    written.bad_images.append(_bad_image(sample, error, config))
                    continue
                class_index = class_indices[sample.wnid]
                jpeg_at = _add_member(tar, f"{key}.jpg", image.jpeg)
                label = str(class_index).encode("ascii")
                label_at = _add_member(tar, f"{key}.cls", label)
                lines.append(f"jpg {jpeg_at} {len(image.jpeg)} {key}.jpg cls {label_at} {len(label)} {key}.cls")
                digest = sha256(image.jpeg).hexdigest()
                place = (plan.name, jpeg_at, len(image.jpeg), digest, image.mended)
                written.samples.append(WrittenSample(key, sample.wnid, class_index, sample.name, *place))
        _sync(file)
    if not lines:
        raise ValueError(f"not one of the {len(plan.samples):,} images planned for {plan.name} can be decoded")
    with open(directory / index_name(plan.name), "w", encoding="ascii") as index:
        index.write(f"{INDEX_VERSION} {len(lines)}\n" + "\n".join(lines) + "\n")
        _sync(index)
    return written


def write_lists(dataset: Dataset, shards: list[WrittenShard], directory: Path) -> dict[str, int]:
    """Write `samples.parquet`, `classes.parquet` and, where images were left out, `bad_images.parquet`; return the counts."""
    samples = [sample for shard in shards for sample in shard.samples]
    bad_images = [bad for shard in shards for bad in shard.bad_images]
    pd.DataFrame(samples, columns=WrittenSample._fields).to_parquet(directory / "samples.parquet", index=False)
    classes = pd.DataFrame(
        [(index, *entry) for index, entry in enumerate(dataset.classes())], columns=["class_index", "wnid", "words"]
    )
    classes["ilsvrc_id"] = pd.Series([None] * len(classes), dtype="Int32")
    classes.to_parquet(directory / "classes.parquet", index=False)
    if bad_images:
        pd.DataFrame(bad_images, columns=BadImage._fields).to_parquet(directory / "bad_images.parquet", index=False)
    mended = sum(sample.mended is not None for sample in samples)
    return {
        "images": len(samples),
        "classes": len(classes),
        "shards": len(shards),
        "mended": mended,
        "bad_images": len(bad_images),
    }


def index_name(shard: str) -> str:
    """`train-00000.idx` for `train-00000.tar`."""
    return shard.removesuffix(".tar") + ".idx"


def _plain_key(sample: Sample) -> str:
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", Path(sample.name).stem)
    wnid = re.sub(r"[^A-Za-z0-9_-]", "-", sample.wnid)
    key = stem if stem.startswith(f"{wnid}_") else f"{wnid}_{stem}"
    changed = stem != Path(sample.name).stem or wnid != sample.wnid or len(key) > 80
    return _marked_key(sample, key) if changed else key


def _marked_key(sample: Sample, key: str) -> str:
    """A key that a digest of the exact class and name keeps apart from its likes."""
    return f"{key[:60]}-{sha256(f'{sample.wnid}/{sample.name}'.encode()).hexdigest()[:12]}"


def _bad_image(sample: Sample, error: BadImageError, config: ShardConfig) -> BadImage:
    source = sample.path if sample.offset is None else f"{sample.path} at byte {sample.offset:,}"
    if config.bad_images == "error":
        raise BadImageError(
            f"cannot read {sample.name} of class {sample.wnid} ({source}): {error}; "
            f"mend or remove it, or set bad_images to report to leave such images out and list them"
        ) from error
    return BadImage(sample.name, sample.wnid, source, str(error))


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append a member whose header holds nothing of the day or the user; return where its data begin."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    offset: int = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(member, io.BytesIO(data))
    return offset


def _sync(file: io.IOBase) -> None:
    file.flush()
    os.fsync(file.fileno())
