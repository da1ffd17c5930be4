"""Real photographs as a dataset: the images of a tar or a folder, repeated until there are enough.

Read by `benchmarks.loading` and `benchmarks.sharding`.
"""

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from base.errors import InputError
from data_shards.datasets.dataset import Dataset, ImageClass, Sample, Split, as_table

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "imagenet-samples-500.tar"
SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Photographs(Dataset):
    """The images of a tar or a folder, repeated under new names until there are `num_images`."""

    source: Path
    num_images: int
    name = "photographs"

    def classes(self) -> list[ImageClass]:
        """Return two classes; the labels mean nothing."""
        return [ImageClass("n00000000", "even"), ImageClass("n00000001", "odd")]

    def samples(self, split: Split) -> pa.Table:
        """Return the samples, the same for every split."""
        del split
        return as_table(self.rows())

    def rows(self) -> list[Sample]:
        """Return the samples as rows."""
        found = _in_folder(self.source) if self.source.is_dir() else _in_tar(self.source)
        if not found:
            raise InputError(f"{self.source} holds no {', '.join(sorted(SUFFIXES))}; expected a tar or a folder of images")
        repeated = (found[i % len(found)] for i in range(self.num_images))
        return [Sample(f"n0000000{i % 2}", f"{i:06d}.jpg", *place) for i, place in enumerate(repeated)]

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the source and the number."""
        return {"source": str(self.source), "num_images": self.num_images, "split": split}


def _in_tar(path: Path) -> list[tuple[str, int, int]]:
    with tarfile.open(path) as tar:
        return [(str(path), m.offset_data, m.size) for m in tar if m.isfile() and Path(m.name).suffix.lower() in SUFFIXES]


def _in_folder(path: Path) -> list[tuple[str, None, None]]:
    return [(str(file), None, None) for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
