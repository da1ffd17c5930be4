"""Samples in, a plan out: which sample goes into which shard under which key, for the whole split before a byte is written.

Called by `tasks.workers.plan`, and read by whatever process writes a shard: a plan is a file of columns, one record batch a
shard, so that fourteen million samples are planned in a minute and any shard is found at once. It lies in a folder of its own,
beside the set, which holds what is needed until the set is closed.
"""

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from data_shards.datasets.dataset import SAMPLES, Dataset, Sample, Split, as_rows
from data_shards.images import STORAGE_PATTERN

PLAN = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("class_index", pa.int32()), *SAMPLES])
"""The columns of a plan."""

PLAN_FILE = "plan.arrow"

MAX_KEY = 80
"""USTAR holds names of 100 bytes; the rest is for a digest and the suffix."""

KEYS_AT_ONCE = 1 << 20
"""Made in pieces, since on the way a key takes several times its memory."""


class ShardConfig(BaseModel):
    """How a split is cut into shards."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    storage: str = Field("square256", pattern=STORAGE_PATTERN)
    """[K12 §2] `square256`: the shorter side scaled to 256 pixels, the centre square of that; `shorter256`: all of it;
    `original`: the file's own bytes."""

    samples_per_shard: int = Field(1000, gt=0)
    """(ours) About 32 MB a shard at 256 × 256."""

    seed: int = Field(0, ge=0)
    """(ours) Of the shuffle over the whole split."""

    check: bool = True
    """(ours) Whether every image is decoded; without it, for `original` only, its header and its end alone are looked at."""

    bad_images: Literal["error", "report"] = "error"
    """(ours) `error` stops at images that cannot be decoded; `report` leaves them out and lists them."""


class ShardPlan(NamedTuple):
    """One shard to be written."""

    name: str
    keys: list[str]
    class_indices: list[int | None]
    """None where the truth is not public."""
    samples: list[Sample]


class Plan:
    """A plan on disk, of which any shard can be read."""

    def __init__(self, work: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(work / PLAN_FILE)))
        about = self._reader.schema.metadata
        self.split = about[b"split"].decode()
        self.num_samples = int(about[b"num_samples"])

    def __len__(self) -> int:
        return int(self._reader.num_record_batches)

    def __getitem__(self, number: int) -> ShardPlan:
        if not 0 <= number < len(self):
            raise IndexError(f"no shard {number}; the plan has {len(self):,}")
        batch = self._reader.get_batch(number)
        keys, class_indices = batch["key"].to_pylist(), batch["class_index"].to_pylist()
        return ShardPlan(self.name_of(number), keys, class_indices, as_rows(batch))

    def num_samples_of(self, number: int) -> int:
        """Return how many samples a shard is planned to hold."""
        return int(self._reader.get_batch(number).num_rows)

    def name_of(self, number: int) -> str:
        """Return a shard's file name."""
        return f"{self.split}-{number:05d}.tar"

    def sources(self) -> Counter[str]:
        """Return how many images are read from each archive; files of their own do not count."""
        counts: Counter[str] = Counter()
        for batch in map(self._reader.get_batch, range(len(self))):
            paths = batch.filter(pc.is_valid(batch["offset"]))["path"]
            for entry in pc.value_counts(paths.indices).to_pylist():
                counts[Path(paths.dictionary[entry["values"]].as_py()).name] += entry["counts"]
        return counts


def plan_shards(dataset: Dataset, split: Split, config: ShardConfig, work: Path) -> Plan:
    """Shuffle the whole split by the seed, cut it into shards, and leave the plan in the folder `work`.

    Raises:
        ValueError: the split holds no image, one whose class is unknown, or two of one class and name.
    """
    samples = dataset.samples(split).combine_chunks()
    if not len(samples):
        raise ValueError(f"{dataset.name} holds no image for the split {split}; expected at least one")
    class_indices = pc.index_in(samples["wnid"], value_set=pa.array([wnid for wnid, _ in dataset.classes()], pa.string()))
    if class_indices.null_count != samples["wnid"].null_count:
        unknown = samples.filter(pc.and_(pc.is_null(class_indices), pc.is_valid(samples["wnid"])))["wnid"][0]
        raise ValueError(f"{dataset.name} has images of the class {unknown}, which is not among its classes")
    about = {"split": split, "num_samples": str(len(samples))}
    columns = [sample_keys(samples), class_indices, *samples.columns]
    table = pa.table(columns, schema=PLAN.with_metadata(about)).combine_chunks()
    order = np.random.Generator(np.random.PCG64(config.seed)).permutation(len(table))
    partial = work / f"{PLAN_FILE}.partial"
    with pa.ipc.new_file(str(partial), table.schema) as writer:
        for start in range(0, len(table), config.samples_per_shard):
            shard = table.take(pa.array(order[start : start + config.samples_per_shard]))
            writer.write_batch(shard.combine_chunks().to_batches()[0])
    partial.rename(work / PLAN_FILE)
    return Plan(work)


def sample_keys(samples: pa.Table) -> pa.Array:
    """Return one key a sample, WNID and the original stem, distinct, in letters, digits, `_` and `-`.

    Raises:
        ValueError: two samples of one class and name.
    """
    pieces = samples.select(["wnid", "name"]).to_batches(max_chunksize=KEYS_AT_ONCE)
    keys = pa.chunked_array([_plain_keys(piece["wnid"], piece["name"]) for piece in pieces], pa.string()).combine_chunks()
    if not len(repeated := _repeated(keys)):
        return keys
    wnids, names = (samples[column].combine_chunks() for column in ("wnid", "name"))
    keys = _mark(keys, pc.is_in(keys, value_set=repeated), wnids, names)
    if len(repeated := _repeated(keys)):
        place = pc.index(keys, repeated[0]).as_py()
        raise ValueError(f"class {wnids[place]} has two images called {names[place]}; expected each name once in its class")
    return keys


def _plain_keys(wnids: pa.Array, names: pa.Array) -> pa.Array:
    """Keys of which some may be equal: those of `a.jpg` and `a.png`."""
    stems = pc.replace_substring_regex(names, r"(.)\.[^.]*$", r"\1")
    known_wnids = pc.fill_null(wnids, "")
    plain_wnids, plain_stems = (pc.replace_substring_regex(text, "[^A-Za-z0-9_-]", "-") for text in (known_wnids, stems))
    begins_with_wnid = pc.equal(pc.list_element(pc.split_pattern(plain_stems, "_", max_splits=1), 0), plain_wnids)
    joined = pc.binary_join_element_wise(plain_wnids, plain_stems, "_")
    keys = pc.if_else(pc.or_(begins_with_wnid, pc.is_null(wnids)), plain_stems, joined)
    changed = pc.or_(pc.not_equal(plain_stems, stems), pc.not_equal(plain_wnids, known_wnids))
    return _mark(keys, pc.or_(changed, pc.greater(pc.binary_length(keys), MAX_KEY)), wnids, names)


def _mark(keys: pa.Array, which: pa.Array, wnids: pa.Array, names: pa.Array) -> pa.Array:
    """Give some keys a digest of the exact class and name, which keeps them apart from their likes."""
    chosen = zip(*(column.filter(which).to_pylist() for column in (keys, wnids, names)), strict=True)
    marked = [f"{key[:60]}-{_digest(wnid, name)}" for key, wnid, name in chosen]
    return pc.replace_with_mask(keys, which, pa.array(marked, pa.string()))


def _digest(wnid: str | None, name: str) -> str:
    return sha256(f"{wnid or ''}/{name}".encode()).hexdigest()[:12]


def _repeated(keys: pa.Array) -> pa.Array:
    """Those of the keys that stand there more than once, found by sorting, which takes less time and memory than counting."""
    ordered = keys.take(pc.sort_indices(keys))
    return pc.unique(ordered[1:].filter(pc.equal(ordered[1:], ordered[:-1])))
