"""What every source of images answers: which classes there are, which samples a split holds, and one sample's bytes.

Called by `data_shards.writing`, which writes what it finds here, and by `tasks.shard`, which names a dataset.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

Split = Literal["train", "val", "test"]


class ImageClass(NamedTuple):
    """One class: its WordNet id and the words people use for it."""

    wnid: str
    words: str


class Sample(NamedTuple):
    """One image before it is sharded: where its bytes are and what it shows."""

    split: Split
    wnid: str
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
    def samples(self, split: Split) -> list[Sample]:
        """Return the split's samples in a fixed order.

        Raises:
            ValueError: the source is not laid out as it should be.
        """

    @abstractmethod
    def identity(self, split: Split) -> dict[str, Any]:
        """Return what tells this input from another, as JSON: equal for equal images, and cheap to compute."""

    def read(self, sample: Sample) -> bytes:
        """Return the image file's bytes."""
        with open(sample.path, "rb") as file:
            if sample.offset is None:
                return file.read()
            file.seek(sample.offset)
            return file.read(sample.size)
