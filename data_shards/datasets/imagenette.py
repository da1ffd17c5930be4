"""Imagenette and Imagewoof, ten classes of ImageNet each: `imagenette2-320.tgz` or its folder, with `train/<wnid>` and `val`.

A compressed archive is copied once to a plain tar for each split.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from base.errors import InputError
from data_shards.datasets.archive import readable, tar_members
from data_shards.datasets.class_lists import choose, existing_list, suffix_of
from data_shards.datasets.dataset import SAMPLES, Dataset, ImageClass, PathSource, Split, in_order
from data_shards.datasets.finding import identity
from data_shards.datasets.image_files import PassedOver, kind_of_file
from data_shards.datasets.members import check_classes, read_members, read_passed_over
from data_shards.datasets.packed import PackedImage, copied, copy_said

CLASSES = {
    "imagenette": {
        "n01440764": "tench",
        "n02102040": "English springer",
        "n02979186": "cassette player",
        "n03000684": "chain saw",
        "n03028079": "church",
        "n03394916": "French horn",
        "n03417042": "garbage truck",
        "n03425413": "gas pump",
        "n03445777": "golf ball",
        "n03888257": "parachute",
    },
    "imagewoof": {
        "n02086240": "Shih-Tzu",
        "n02087394": "Rhodesian ridgeback",
        "n02088364": "beagle",
        "n02089973": "English foxhound",
        "n02093754": "Border terrier",
        "n02096294": "Australian terrier",
        "n02099601": "golden retriever",
        "n02105641": "Old English sheepdog",
        "n02111889": "Samoyed",
        "n02115641": "dingo",
    },
}
"""[github.com/fastai/imagenette]"""


@dataclass(frozen=True)
class Imagenette(Dataset):
    """One of the two sets: all ten classes, or those of a list."""

    kind: str
    root: Path
    """The archive, or the folder that holds `train` and `val` or a folder with them."""
    unpack_dir: Path
    """The folder for the plain copies."""
    wnids: Path | None = None
    """A text file with one WNID a line; by default all ten classes."""
    lists: Mapping[Path, Path] = field(default_factory=dict)
    """The list of members of each of `archives`."""

    @property
    def name(self) -> str:
        """`imagenette` or `imagewoof`; with a list of classes also their number and a digest."""
        return self.kind + (suffix_of(self._chosen) if self.wnids else "")

    def classes(self) -> list[ImageClass]:
        """Return the classes used."""
        return [ImageClass(wnid, CLASSES[self.kind][wnid]) for wnid in self._chosen]

    def splits(self) -> dict[Split, str | None]:
        """Return train and val, and the folders that are missing."""
        return {split: self._missing(split) for split in ("train", "val")}

    def archives(self, split: Split) -> list[Path]:
        """Return the split's folder, or the plain copy of the split, which is written if it is not there."""
        if missing := self._missing(split):
            raise InputError(missing)
        if self.root.is_dir():
            return [folder for folder in [self._folder(split)] if folder]
        return [copied(f"{self.kind}-{split}", [self.root], self._images(split), self.unpack_dir)]

    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples by WNID, then by name.

        Raises:
            InputError: the images are of other classes, or two have the same class and name.
        """
        (archive,) = self.archives(split)
        images = read_members(archive, self.lists[archive])
        wnids = images["folder"].cast(pa.string())
        check_classes(wnids, sorted(CLASSES[self.kind]), self.root)
        images = images.append_column("wnid", wnids).filter(pc.is_in(wnids, value_set=pa.array(self._chosen)))
        return in_order(images.select(SAMPLES.names).cast(SAMPLES), self.root)

    def passed_over(self, split: Split) -> PassedOver:
        """Return what the list of members counts."""
        return read_passed_over(self.lists[archive] for archive in self.archives(split))

    def found(self, split: Split) -> str | None:
        """Return the archive and its plain copy."""
        return None if self.root.is_dir() else copy_said(self.root.name, [self.root], *self.archives(split))

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the identity of the archive or the split's folder, and a digest of the classes used."""
        source = self._folder(split) if self.root.is_dir() else self.root
        classes = sha256("\n".join(self._chosen).encode()).hexdigest()
        return {"kind": self.kind, "split": split, "source": identity(source or self.root), "classes": classes}

    @cached_property
    def _chosen(self) -> list[str]:
        known = sorted(CLASSES[self.kind])
        return known if self.wnids is None else choose(self.wnids, known, self.root)

    def _folder(self, split: Split) -> Path | None:
        places = [self.root / split, *sorted(self.root.glob(f"{self.kind}*/{split}"))]
        return next((folder for folder in places if folder.is_dir()), None)

    def _missing(self, split: Split) -> str | None:
        if split == "test":
            return f"{self.kind} has no split test; its splits are train and val"
        if self.root.is_dir() and not self._folder(split):
            return f"no folder {split} in {self.root}; expected {split} with a folder for each of the ten classes"
        return None

    def _images(self, split: Split) -> Iterator[PackedImage]:
        with readable(self.root):
            for member, content in tar_members(self.root):
                _, part, path = f"/{member.name}".partition(f"/{split}/")
                if part and content is not None and kind_of_file(path) is None:
                    folder, _, name = path.partition("/")
                    yield PackedImage(folder, name, content.read())


class ImagenetteSource(PathSource):
    """The archive or the folder of one of the two sets."""

    kind: Literal["imagenette", "imagewoof"]
    """(ours) Which of the two."""

    wnids: Path | None = None
    """(ours) A text file with the classes to use, one WNID a line; by default all ten."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> Imagenette:
        """Return the dataset."""
        return Imagenette(self.kind, self.existing_path(), unpack_dir, existing_list(self.wnids), lists)
