"""Tiny ImageNet as a folder, a zip or a tar: 64 × 64 JPEGs, per class 500 for training and 50 for validation.

`wnids.txt`, `words.txt`, `train/<wnid>/images/*.JPEG`, `val/images/*.JPEG` with `val/val_annotations.txt`; also
`train/<wnid>/*.JPEG`, and `val/<wnid>/*.JPEG` or `val/<wnid>/images/*.JPEG`, as scripts for training sort it.
A compressed archive is copied to a plain tar first (`data_shards.datasets.archive`) and read at offsets there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from base.errors import InputError
from data_shards.datasets.archive import Tree, open_tree
from data_shards.datasets.class_lists import (
    choose,
    class_names,
    existing_list,
    nfc,
    suffix_of,
    text_lines,
    unlisted,
    words_of,
)
from data_shards.datasets.dataset import Dataset, ImageClass, PathSource, Sample, Split, UserPath, as_table, in_order
from data_shards.datasets.image_files import PassedOver

CLASS_LIST = "wnids.txt"
ANNOTATIONS = "val/val_annotations.txt"
BOXES = "_boxes.txt"


@dataclass(frozen=True)
class TinyImageNet(Dataset):
    """All classes of the source or those of a list, or the first `num_classes` of them in WNID order."""

    root: Path
    """The folder that holds `wnids.txt`, or an archive of it."""
    unpack_dir: Path
    """The folder for an archive's plain copy."""
    num_classes: int | None = None
    wnids: Path | None = None
    """A text file with one WNID a line; by default all classes of the source."""

    @property
    def name(self) -> str:
        """`tiny-imagenet-20` if 20 classes are used; with a list of classes also a digest of them."""
        return "tiny-imagenet" + (suffix_of(self._wnids) if self.wnids else f"-{len(self._wnids)}")

    def classes(self) -> list[ImageClass]:
        """Return the WNIDs used, with their words from `words.txt`."""
        words = words_of(self._tree.read("words.txt"))
        return [ImageClass(wnid, words.get(wnid, wnid)) for wnid in self._wnids]

    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples by class, then by name.

        Raises:
            InputError: `test`, whose labels are not public; a class without images; an annotation without its image, or with
                another class than the image's folder; two images of one class and name.
        """
        found = list(self._samples(split, PassedOver()))
        counts = Counter(sample.wnid for sample in found)
        for wnid in self._wnids:
            if not counts[wnid]:
                raise InputError(f"{self.root} has no {split} image of the class {wnid}, which its {CLASS_LIST} lists")
        return in_order(as_table(found, self.root), self.root)

    def passed_over(self, split: Split) -> PassedOver:
        """Return how many files of the split are not images of a class, by kind, and how many listed classes are missing."""
        passed = PassedOver()
        list(self._samples(split, passed))
        if absent := sorted(self._listed - set(self._present)):
            passed.add(f"classes of {CLASS_LIST} without a folder", absent[0], len(absent))
        return passed

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the source's identity with the classes used."""
        return {"kind": "tiny-imagenet", "split": split, "source": self._tree.identity, "wnids": self._wnids}

    @cached_property
    def _tree(self) -> Tree:
        return open_tree(self.root, self.unpack_dir, marker=CLASS_LIST)

    @cached_property
    def _listed(self) -> set[str]:
        return set(class_names(self._tree.read(CLASS_LIST)))

    @cached_property
    def _present(self) -> list[str]:
        """The listed classes with a training folder; a subset of the images keeps the list of all 200."""
        folders = {nfc(name.split("/")[1]) for name in self._tree.files if name.startswith("train/")}
        return sorted(wnid for wnid in self._listed if nfc(wnid) in folders)

    @cached_property
    def _wnids(self) -> list[str]:
        found = self._present if self.wnids is None else choose(self.wnids, self._present, self.root)
        wanted = self.num_classes or len(found)
        if len(found) < max(2, wanted):
            of_list = f" of the list {self.wnids}" if self.wnids else ""
            raise InputError(
                f"{self.root} has training images of {len(found)} classes{of_list}; expected at least {max(2, wanted)}"
            )
        return found[:wanted]

    @cached_property
    def _class_of(self) -> dict[str, str]:
        """Each class's spelling by its composed form: those of the user's list, or of the source's."""
        return {nfc(wnid): wnid for wnid in (self._wnids if self.wnids else self._listed)}

    def _samples(self, split: Split, passed: PassedOver) -> Iterator[Sample]:
        if split == "test":
            raise InputError("Tiny ImageNet's test images have no public labels; use the split val")
        wanted = set(self._wnids)
        for sample in self._train(passed) if split == "train" else self._val(passed):
            if sample.wnid in wanted:
                yield sample

    def _images(self, split: Split, passed: PassedOver) -> Iterator[tuple[str, str]]:
        """Yield the first folder of each image of a split, "" for none, and its path; count everything else."""
        others = self._tree.others.items()
        for name, kind in [*((name, None) for name in self._tree.files), *others]:
            parts = name.split("/")
            if parts[0] != split or len(parts) < 2 or name == ANNOTATIONS or name.endswith(BOXES):
                continue
            if passed.is_image(name, kind):
                yield parts[1] if len(parts) > 2 else "", name

    def _train(self, passed: PassedOver) -> Iterator[Sample]:
        for folder, name in self._images("train", passed):
            if wnid := self._class_of.get(nfc(folder)):
                yield self._sorted_sample(wnid, name)
            else:
                passed.add(self._unlisted if folder else "images outside class folders", name)

    def _val(self, passed: PassedOver) -> Iterator[Sample]:
        """Yield the images that are sorted into class folders, then those that the annotations label."""
        in_folders: dict[str, str] = {}
        unsorted: dict[str, str] = {}
        for folder, name in self._images("val", passed):
            if wnid := self._class_of.get(nfc(folder)):
                in_folders[name.split("/")[-1]] = wnid
                yield self._sorted_sample(wnid, name)
            elif folder in ("", "images"):
                if (other := unsorted.setdefault(name.split("/")[-1], name)) != name:
                    raise InputError(f"{self.root} holds {other} and {name}, which have one annotation; remove one")
            else:
                passed.add(self._unlisted, name)
        if unsorted or not in_folders or ANNOTATIONS in self._tree.files:
            yield from self._annotated(in_folders, unsorted, passed)

    def _annotated(self, in_folders: dict[str, str], unsorted: dict[str, str], passed: PassedOver) -> Iterator[Sample]:
        annotations, wanted = self._annotations(), set(self._wnids)
        for name, label in annotations.items():
            wnid = self._class_of.get(nfc(label))
            if wnid is None:
                if name in unsorted:
                    passed.add(self._unlisted, unsorted[name])
            elif name in unsorted:
                yield self._sample(wnid, name, unsorted[name])
            elif in_folders.get(name, wnid) != wnid:
                raise InputError(
                    f"{self.root} holds {name} in the folder of {in_folders[name]}, but {ANNOTATIONS} says {wnid}; "
                    f"unpack the original again"
                )
            elif name not in in_folders and wnid in wanted:
                raise InputError(
                    f"{self.root} lists val/images/{name} but does not hold it; the copy is incomplete, fetch it again"
                )
        for name in sorted(unsorted.keys() - annotations.keys()):
            passed.add("images without an annotation", unsorted[name])

    def _annotations(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, *rest in (line.split("\t") for line in text_lines(self._tree.read(ANNOTATIONS)) if line.strip()):
            if not rest or name in found:
                what = "twice" if rest else "without a class"
                raise InputError(f"{self.root}: val_annotations.txt lists {name} {what}; fetch the copy again")
            found[name] = rest[0].strip()
        return found

    @property
    def _unlisted(self) -> str:
        return unlisted(self.wnids.name if self.wnids else CLASS_LIST)

    def _sorted_sample(self, wnid: str, name: str) -> Sample:
        """Return the sample of an image in its class's folder."""
        inside = name.split("/")[2:]
        return self._sample(wnid, "/".join(inside[1:] if inside[0] == "images" and len(inside) > 1 else inside), name)

    def _sample(self, wnid: str, name: str, path: str) -> Sample:
        return Sample(wnid, name, *self._tree.files[path])


class TinyImageNetSource(PathSource):
    """All of Tiny ImageNet, or its first classes, or those of a list."""

    kind: Literal["tiny-imagenet"] = "tiny-imagenet"
    """(ours) The layout."""

    num_classes: int | None = Field(None, gt=1)
    """(ours) The number of classes, the first in WNID order; by default all of them."""

    wnids: UserPath | None = None
    """(ours) A text file with the classes to use, one WNID a line; by default all of them."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> TinyImageNet:
        """Return the dataset."""
        del lists
        return TinyImageNet(self.existing_path(), unpack_dir, self.num_classes, existing_list(self.wnids))
