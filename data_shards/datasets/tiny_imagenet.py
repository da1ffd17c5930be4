"""Tiny ImageNet in its public layout, as a folder, a zip or a tar: 64 × 64 JPEGs, per class 500 for training and 50
for validation.

`wnids.txt`, `words.txt`, `train/<wnid>/images/*.JPEG`, `val/images/*.JPEG` with `val/val_annotations.txt`.
A compressed archive is copied to a plain tar first (`data_shards.datasets.archive`) and read at offsets there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from base.errors import InputError
from data_shards.datasets.archive import Tree, open_tree
from data_shards.datasets.dataset import Dataset, ImageClass, PathSource, Sample, Split, as_table


@dataclass(frozen=True)
class TinyImageNet(Dataset):
    """All classes of the source, or its first `num_classes` in WNID order."""

    root: Path
    """The folder that holds `wnids.txt`, or an archive of it."""
    unpack_dir: Path
    """The folder for an archive's plain copy."""
    num_classes: int | None = None

    @property
    def name(self) -> str:
        """`tiny-imagenet-20` if 20 classes are used."""
        return f"tiny-imagenet-{len(self._wnids)}"

    def classes(self) -> list[ImageClass]:
        """Return the WNIDs used, with their words from `words.txt`."""
        lines = self._lines("words.txt")
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
        return [ImageClass(wnid, words.get(wnid, wnid)) for wnid in self._wnids]

    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples by class, then by name.

        Raises:
            InputError: `test`, whose labels are not public; a class without images; an annotation without its image.
        """
        if split == "test":
            raise InputError("Tiny ImageNet's test images have no public labels; use the split val")
        found = sorted(self._train() if split == "train" else self._val())
        counts = Counter(sample.wnid for sample in found)
        for wnid in self._wnids:
            if not counts[wnid]:
                raise InputError(f"{self.root} has no {split} image of the class {wnid}, which its wnids.txt lists")
        return as_table(found)

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the source's identity with the classes used."""
        return {"kind": "tiny-imagenet", "split": split, "source": self._tree.identity, "wnids": self._wnids}

    @cached_property
    def _tree(self) -> Tree:
        return open_tree(self.root, self.unpack_dir, marker="wnids.txt")

    @cached_property
    def _wnids(self) -> list[str]:
        listed = sorted({line.strip() for line in self._lines("wnids.txt") if line.strip()})
        present = {path.parts[1] for path in map(PurePosixPath, self._tree.files) if path.parts[0] == "train"}
        listed = [wnid for wnid in listed if wnid in present]  # a subset keeps the list of all 200
        wanted = self.num_classes or len(listed)
        if len(listed) < max(2, wanted):
            raise InputError(f"{self.root} has training images of {len(listed)} classes; expected at least {max(2, wanted)}")
        return listed[:wanted]

    def _lines(self, name: str) -> list[str]:
        return self._tree.read(name).decode("utf-8", "replace").splitlines()

    def _train(self) -> Iterator[Sample]:
        wanted = set(self._wnids)
        for name in self._tree.files:
            parts = PurePosixPath(name).parts
            if len(parts) == 4 and parts[0] == "train" and parts[1] in wanted and parts[2] == "images":
                yield self._sample(parts[1], name)

    def _val(self) -> Iterator[Sample]:
        wanted = set(self._wnids)
        annotations = [line.split("\t") for line in self._lines("val/val_annotations.txt") if line.strip()]
        seen: set[str] = set()
        for name, *rest in annotations:
            if not rest or name in seen:
                what = "twice" if rest else "without a class"
                raise InputError(f"{self.root}: val_annotations.txt lists {name} {what}; fetch the copy again")
            seen.add(name)
            if (wnid := rest[0]) in wanted:
                yield self._sample(wnid, f"val/images/{name}")

    def _sample(self, wnid: str, name: str) -> Sample:
        region = self._tree.files.get(name)
        if region is None:
            raise InputError(f"{self.root} lists {name} but does not hold it; the copy is incomplete, fetch it again")
        return Sample(wnid, PurePosixPath(name).name, *region)


class TinyImageNetSource(PathSource):
    """All of Tiny ImageNet, or its first classes."""

    kind: Literal["tiny-imagenet"] = "tiny-imagenet"
    """(ours) The layout."""

    num_classes: int | None = Field(None, gt=1)
    """(ours) The number of classes, the first in WNID order; by default all of them."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> TinyImageNet:
        """Return the dataset."""
        del lists
        return TinyImageNet(self.existing_path(), unpack_dir, self.num_classes)
