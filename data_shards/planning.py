"""Samples to a plan: which sample goes into which shard under which key, for the whole split, before a byte is written.

Called by `tasks.workers.plan`, and read by every process that writes a shard. A plan is an Arrow file with one record batch a
shard, so that fourteen million samples are planned in a minute and any shard is read at once. It is in the set's work folder,
which is deleted when the set is closed.
"""

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from base.errors import InputError
from base.files import atomic_write
from data_shards.datasets.dataset import SAMPLES, Dataset, Sample, Split, as_rows
from data_shards.storage import STORAGE_PATTERN

PLAN = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("class_index", pa.int32()), *SAMPLES])
"""The columns of a plan."""

PLAN_FILE = "plan.arrow"

MAX_KEY = 80
"""[POSIX ustar] Names have at most 100 bytes; the rest is for a digest and the suffix."""

KEYS_AT_ONCE = 1 << 20
"""Samples whose keys are made together: the intermediate results take several times the memory of the keys."""


class ShardConfig(BaseModel):
    """How a split is cut into shards."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    storage: str = Field("square256", pattern=STORAGE_PATTERN)
    """[K12 §2] `square256`: the shorter side scaled to 256 pixels, the centre square of that; `shorter256`: all of it;
    `original`: the file's own bytes."""

    samples_per_shard: int = Field(1000, gt=0)
    """(ours) About 32 MB a shard at 256 × 256."""

    seed: int = Field(0, ge=0)
    """(ours) Of the shuffle of the whole split."""

    check: bool = True
    """(ours) Decode every image. Without it, `original` only reads its header and looks for the mark of its end."""

    bad_images: Literal["error", "report"] = "error"
    """(ours) What to do with images that cannot be decoded: `error` stops, `report` leaves them out and lists them."""


class ShardPlan(NamedTuple):
    """One shard to be written."""

    name: str
    keys: list[str]
    class_indices: list[int | None]
    """None if the labels are not public."""
    samples: list[Sample]


class Plan:
    """A plan on disk: a sequence of shards, each read when it is asked for."""

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
        """Return the planned number of samples of a shard."""
        return int(self._reader.get_batch(number).num_rows)

    def name_of(self, number: int) -> str:
        """Return a shard's file name."""
        return f"{self.split}-{number:05d}.tar"

    def sources(self) -> Counter[str]:
        """Return the number of images in each archive; images that are files of their own are not counted."""
        counts: Counter[str] = Counter()
        for batch in map(self._reader.get_batch, range(len(self))):
            paths = batch.filter(pc.is_valid(batch["offset"]))["path"]
            for entry in pc.value_counts(paths.indices).to_pylist():
                counts[Path(paths.dictionary[entry["values"]].as_py()).name] += entry["counts"]
        return counts


def plan_shards(dataset: Dataset, split: Split, config: ShardConfig, work: Path) -> Plan:
    """Shuffle the whole split by the seed, cut it into shards, and write the plan into the folder `work`.

    Raises:
        InputError: the split holds no image, an image of an unknown class, or two images of one class and name.
    """
    samples = dataset.samples(split).combine_chunks()
    if not len(samples):
        raise InputError(f"{dataset.name} has no images in the split {split}; expected at least one; check its path")
    class_indices = pc.index_in(samples["wnid"], value_set=pa.array([wnid for wnid, _ in dataset.classes()], pa.string()))
    if class_indices.null_count != samples["wnid"].null_count:
        unknown = samples.filter(pc.and_(pc.is_null(class_indices), pc.is_valid(samples["wnid"])))["wnid"][0]
        raise InputError(
            f"{dataset.name} has images of the class {unknown}, which is not in its list of classes; add it, or remove them"
        )
    about = {"split": split, "num_samples": str(len(samples))}
    columns = [sample_keys(samples), class_indices, *samples.columns]
    table = pa.table(columns, schema=PLAN.with_metadata(about)).combine_chunks()
    order = np.random.Generator(np.random.PCG64(config.seed)).permutation(len(table))
    with atomic_write(work / PLAN_FILE) as file, pa.ipc.new_file(file, table.schema) as writer:
        for start in range(0, len(table), config.samples_per_shard):
            shard = table.take(pa.array(order[start : start + config.samples_per_shard]))
            writer.write_batch(shard.combine_chunks().to_batches()[0])
    return Plan(work)


def sample_keys(samples: pa.Table) -> pa.Array:
    """Return a distinct key for each sample: its WNID and its file's stem, in letters, digits, `_` and `-`.

    Raises:
        InputError: two samples have the same class and name.
    """
    pieces = samples.select(["wnid", "name"]).to_batches(max_chunksize=KEYS_AT_ONCE)
    keys = pa.chunked_array([_plain_keys(piece["wnid"], piece["name"]) for piece in pieces], pa.string()).combine_chunks()
    if not len(repeated := _repeated(keys)):
        return keys
    wnids, names = (samples[column].combine_chunks() for column in ("wnid", "name"))
    keys = _mark(keys, pc.is_in(keys, value_set=repeated), wnids, names)
    if len(repeated := _repeated(keys)):
        place = pc.index(keys, repeated[0]).as_py()
        raise InputError(f"class {wnids[place]} has two images named {names[place]}; rename or remove one of them")
    return keys


def _plain_keys(wnids: pa.Array, names: pa.Array) -> pa.Array:
    """Return keys, some of which may be equal: those of `a.jpg` and `a.png`."""
    stems = pc.replace_substring_regex(names, r"(.)\.[^.]*$", r"\1")
    known_wnids = pc.fill_null(wnids, "")
    plain_wnids, plain_stems = (pc.replace_substring_regex(text, "[^A-Za-z0-9_-]", "-") for text in (known_wnids, stems))
    begins_with_wnid = pc.equal(pc.list_element(pc.split_pattern(plain_stems, "_", max_splits=1), 0), plain_wnids)
    joined = pc.binary_join_element_wise(plain_wnids, plain_stems, "_")
    keys = pc.if_else(pc.or_(begins_with_wnid, pc.is_null(wnids)), plain_stems, joined)
    changed = pc.or_(pc.not_equal(plain_stems, stems), pc.not_equal(plain_wnids, known_wnids))
    return _mark(keys, pc.or_(changed, pc.greater(pc.binary_length(keys), MAX_KEY)), wnids, names)


def _mark(keys: pa.Array, which: pa.Array, wnids: pa.Array, names: pa.Array) -> pa.Array:
    """Append to some keys a digest of the exact class and name, which makes them distinct."""
    chosen = zip(*(column.filter(which).to_pylist() for column in (keys, wnids, names)), strict=True)
    marked = [f"{key[:60]}-{_digest(wnid, name)}" for key, wnid, name in chosen]
    return pc.replace_with_mask(keys, which, pa.array(marked, pa.string()))


def _digest(wnid: str | None, name: str) -> str:
    return sha256(f"{wnid or ''}/{name}".encode()).hexdigest()[:12]


def _repeated(keys: pa.Array) -> pa.Array:
    """Return the keys that occur more than once. Sorting takes less time and memory than counting."""
    ordered = keys.take(pc.sort_indices(keys))
    return pc.unique(ordered[1:].filter(pc.equal(ordered[1:], ordered[:-1])))
