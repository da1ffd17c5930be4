"""What every source of images answers: which classes there are, which samples a split holds, and one sample's bytes.

Called by `data_shards.planning`, which decides what goes where, by `data_shards.writing`, which writes what it finds here, and
by `tasks.shard`, which names a dataset. Samples travel as columns, since a release of ImageNet has fourteen million of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_shards.datasets.devkit import Devkit

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

SAMPLES = pa.schema(
    [
        pa.field("wnid", pa.string()),
        pa.field("name", pa.string(), nullable=False),
        pa.field("path", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64()),
    ]
)
"""The columns of a split's samples; a row is a `Sample`."""


class ImageClass(NamedTuple):
    """One class: its WordNet id and the words people use for it."""

    wnid: str
    words: str


class Sample(NamedTuple):
    """One image before it is sharded: where its bytes are and what it shows."""

    wnid: str | None
    """None where the truth is not public."""
    name: str
    """The original file's name, with its suffix."""
    path: str
    """The file that holds the bytes; for a dataset without files, whatever names the image."""
    offset: int | None = None
    """Where the bytes begin in an archive; None where the file is the image."""
    size: int | None = None


class Dataset(ABC):
    """A source of images. Small and picklable: the processes that write shards each get a copy."""

    name: str
    """How artefacts and tables call it: `synthetic`, `tiny-imagenet`, the folder's name."""

    @abstractmethod
    def classes(self) -> list[ImageClass]:
        """Return every class in WNID order; the position is the class index."""

    @abstractmethod
    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples in a fixed order, the columns of `SAMPLES`.

        Raises:
            ValueError: the source is not laid out as it should be.
        """

    @abstractmethod
    def identity(self, split: Split) -> dict[str, Any]:
        """Return what tells this input from another, as JSON: equal for equal images, and cheap to compute."""

    def splits(self) -> dict[Split, str | None]:
        """Return for each split that the dataset defines None where it is there, and what is missing where it is not."""
        return {"train": None, "val": None}

    def archives(self, split: Split) -> list[Path]:
        """Return the archives and folders whose members have to be listed before `samples` can be asked."""
        del split
        return []

    def official_count(self, split: Split) -> int | None:
        """Return how many images people expect, where a release's papers say."""
        del split
        return None

    def devkit(self) -> Devkit | None:
        """Return the competition's synsets, where the dataset comes from one."""
        return None

    def read(self, sample: Sample) -> bytes:
        """Return the image file's bytes.

        Raises:
            OSError: the file is not there, or ends before the image does.
        """
        with open(sample.path, "rb") as file:
            if sample.offset is None:
                return file.read()
            file.seek(sample.offset)
            data = file.read(sample.size)
        if len(data) != sample.size:
            raise OSError(f"{sample.path} ends within {sample.name}, at byte {sample.offset + len(data):,}; it was cut short")
        return data


def as_table(samples: Iterable[Sample]) -> pa.Table:
    """Return samples as columns."""
    columns = list(zip(*samples, strict=True)) or [()] * len(SAMPLES)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, SAMPLES, strict=True)], schema=SAMPLES
    )


def in_order(samples: pa.Table, root: Path) -> pa.Table:
    """Return samples by WNID, then by name, those without a WNID last; `root` is how errors call their source.

    Raises:
        ValueError: two of one class and name.
    """
    samples = samples.sort_by([("wnid", "ascending"), ("name", "ascending")]).combine_chunks()
    names, wnids = samples["name"], samples["wnid"]
    for place in pc.indices_nonzero(pc.equal(names[:-1], names[1:])).to_pylist():
        if wnids[place] == wnids[place + 1]:
            of_class = f" in the class {wnids[place]}" if wnids[place].is_valid else ""
            raise ValueError(f"{root} holds two images called {names[place]}{of_class}; expected one")
    return samples


def as_rows(samples: pa.Table | pa.RecordBatch) -> list[Sample]:
    """Return columns as samples."""
    return [Sample(*row) for row in zip(*(samples[name].to_pylist() for name in Sample._fields), strict=True)]
