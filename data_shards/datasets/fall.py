"""ImageNet's whole releases (fall 2009, fall 2011, winter 2021) as they are handed out: a tar for each synset, or one of those.

They have no established split. A seeded part of every class is held out, the rest is for training: half of 2009 for testing
[K12 §6], a hundredth of the others to validate pre-training (ours). If no class has a hundred images, one image of each
class of ten or more is held out instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from base.errors import InputError
from data_shards.datasets.archive import plain_tar
from data_shards.datasets.class_lists import existing_list, read_wnids, unlisted, words_of
from data_shards.datasets.dataset import SAMPLES, Dataset, ImageClass, PathSource, Split, UserPath, in_order
from data_shards.datasets.finding import WNID, find, has_class_folders, identity
from data_shards.datasets.image_files import PassedOver
from data_shards.datasets.members import check_classes, read_members, read_passed_over
from data_shards.datasets.unreadable import unreadable_in


class FallRelease(NamedTuple):
    """The names of a release's files, and the part of each class that is held out from training."""

    name: str
    images: tuple[str, ...]
    """Patterns below the folder that holds the archives; if none matches, the images are in that folder itself."""
    held_out: Split
    every: int
    """One image in this many is held out."""
    num_images: int | None
    """In the whole release."""


FALL2009 = FallRelease("fall2009", ("fall09*.tar", "fall2009*.tar", "fall09*", "fall2009*"), "test", 2, None)
FALL2011 = FallRelease("fall2011", ("fall11*.tar", "fall2011*.tar", "fall11*", "fall2011*"), "val", 100, 14_197_122)
WINTER21 = FallRelease("winter21", ("winter21*.tar", "winter21*"), "val", 100, None)
"""[image-net.org] `winter21_whole.tar.gz` of 19,167 classes, which replaces `fall11_whole.tar`."""
FROM_SIZE = 10
"""(ours) If no class has enough images for the release's rule, one image is held out of each class of this many or more."""

RELEASES = {release.name: release for release in (FALL2009, FALL2011, WINTER21)}


@dataclass(frozen=True)
class Fall(Dataset):
    """One release: all of its classes, or those of a list."""

    release: FallRelease
    root: Path
    """The folder that holds the archive, or the synsets' tars or folders."""
    wnids: Path | None = None
    """A text file with one WNID a line; by default all classes of the release."""
    seed: int = 0
    """Chooses the held-out images."""
    lists: Mapping[Path, Path] = field(default_factory=dict)
    """The list of members of each of `archives`."""
    unpack_dir: Path = Path()
    """The folder for a compressed archive's plain copy."""

    @property
    def name(self) -> str:
        """`fall2009`, `fall2011` or `winter21`."""
        return self.release.name

    def classes(self) -> list[ImageClass]:
        """Return the classes used, with their words if the folder holds ImageNet's `words.txt`."""
        path = self.root / "words.txt"
        words = words_of(path.read_bytes()) if path.is_file() else {}
        return [ImageClass(wnid, words.get(wnid, wnid)) for wnid in self._classes]

    def splits(self) -> dict[Split, str | None]:
        """Return train and the held-out split: test or val."""
        missing = None
        try:
            self._images  # noqa: B018  # searches the folder
        except InputError as error:
            missing = str(error)
        return {"train": missing, self.release.held_out: missing}

    def archives(self, split: Split) -> list[Path]:
        """Return the archive or folder that both splits are drawn from; a compressed archive is first copied to a plain tar."""
        del split
        return [self._listed]

    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples by WNID, then by name.

        Raises:
            InputError: the release has no such split, a listed class has no images, a folder is not a class, or two images
                have the same class and name.
        """
        if split not in self.splits():
            raise InputError(f"{self.name} has no split {split}; its splits are train and {self.release.held_out}")
        images = read_members(self._listed, self.lists[self._listed])
        wnids = images["folder"].cast(pa.string())
        if self.wnids is not None:
            listed = pc.is_in(wnids, value_set=pa.array(self._classes))
            images, wnids = images.filter(listed), wnids.filter(listed)
        advice = "fetch it again" + (f" or take them off {self.wnids.name}" if self.wnids else "")
        check_classes(wnids, self._classes, self._images, advice)
        images = in_order(images.append_column("wnid", wnids).select(SAMPLES.names).cast(SAMPLES), self._images)
        held_out = draw_held_out(images["wnid"], self.release.every, self.seed)
        if split == self.release.held_out and not held_out.any():
            raise InputError(f"{self._images}: {self._nothing_held_out()}; ask for the split train alone")
        return images.filter(pa.array(held_out if split == self.release.held_out else ~held_out))

    def passed_over(self, split: Split) -> PassedOver:
        """Return what the archive's list counts, and the images of classes that are not on the list of classes."""
        del split
        passed = read_passed_over([self.lists[self._listed]])
        if self.wnids is not None:
            images = read_members(self._listed, self.lists[self._listed])
            other = images.filter(pc.invert(pc.is_in(images["folder"].cast(pa.string()), value_set=pa.array(self._classes))))
            if len(other):
                example = f"{other['folder'][0].as_py()}/{other['name'][0].as_py()}"
                passed.add(unlisted(self.wnids.name), example, len(other))
        return passed

    def found(self, split: Split) -> str | None:
        """Return which plain copy is read, and how images are held out if classes are small."""
        del split
        copied = f"{self._images.name} is compressed; read from its plain copy {self._listed}"
        sizes = _sizes(pq.read_table(self.lists[self._listed], columns=["folder"])["folder"], self._classes)
        said = [copied] * (self._listed != self._images)
        if max(sizes) < min(FROM_SIZE, self.release.every):
            said.append(self._nothing_held_out())
        elif max(sizes) < self.release.every:
            rule = f"one image of each class of {FROM_SIZE} or more is held out for {self.release.held_out}"
            said.append(f"no class has {self.release.every} images, so {rule}")
        return "; ".join(said) or None

    def _nothing_held_out(self) -> str:
        return f"no class has {min(FROM_SIZE, self.release.every)} images, so none is held out for {self.release.held_out}"

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the archive's identity and the settings of the split."""
        return {
            "kind": self.name,
            "split": split,
            "archives": [identity(self._images)],
            "wnids": None if self.wnids is None else sha256("\n".join(self._classes).encode()).hexdigest(),
            "held_out": {"split": self.release.held_out, "every": self.release.every, "seed": self.seed},
        }

    def official_count(self, split: Split) -> int | None:
        """Return how many images the whole release holds, both splits together."""
        del split
        return self.release.num_images

    @cached_property
    def _listed(self) -> Path:
        """The archive or folder whose members are listed, which can be read at random."""
        return plain_tar(self._images, self.unpack_dir)

    @cached_property
    def _images(self) -> Path:
        for other in RELEASES.values():
            if other != self.release and any(fnmatch(self.root.name, pattern) for pattern in other.images):
                raise InputError(f"{self.root} is the release {other.name}, not {self.release.name}; give its name instead")
        if found := find(self.root, self.release.images):
            return found
        if not has_class_folders(self.root):
            missing = f"no {self.release.images[0]} in {self.root}, nor a synset's tar or folder such as n01440764.tar"
            raise InputError(unreadable_in(self.root, (*self.release.images, "n????????.tar")) or missing)
        return self.root

    @cached_property
    def _classes(self) -> list[str]:
        if self.wnids is not None:
            return read_wnids(self.wnids)
        folders = pq.read_table(self.lists[self._listed], columns=["folder"])["folder"]
        found: list[str] = sorted(pc.unique(folders).to_pylist())
        wrong = [name for name in found if not WNID.fullmatch(name)]
        if wrong or len(found) < 2:
            what = f"images in {wrong[0]!r}, which is not a WNID" if wrong else f"{len(found)} classes"
            wrong_names = f"{self._images} holds {what}; expected one tar or folder a synset, named by its WNID"
            raise InputError(unreadable_in(self.root, ("n????????.tar",)) or wrong_names)
        return found


class FallSource(PathSource):
    """The folder of a release's archives."""

    kind: Literal["fall2009", "fall2011", "winter21"]
    """[K12 §6] The release."""

    wnids: UserPath | None = None
    """[K12 §6] A text file with the classes to use, one WNID a line; by default all classes of the release."""

    seed: int = Field(0, ge=0)
    """(ours) The seed that chooses the held-out images."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> Fall:
        """Return the dataset."""
        root = self.existing_folder()
        return Fall(RELEASES[self.kind], root, existing_list(self.wnids), self.seed, lists, unpack_dir)


def _sizes(folders: pa.ChunkedArray, classes: list[str]) -> list[int]:
    """Return the number of images of each of the classes that have any, 0 if none does."""
    known = set(classes)
    return [entry["counts"] for entry in pc.value_counts(folders).to_pylist() if entry["values"] in known] or [0]


def draw_held_out(wnids: pa.Array | pa.ChunkedArray, every: int, seed: int) -> NDArray[np.bool_]:
    """Return which images (N,) are held out: one in `every` of each class, rounded down, drawn at random.

    `wnids` are sorted. Each class is drawn independently, so its held-out images do not depend on the other classes, unless
    none of them has `every` images: then it is one image of each class of `FROM_SIZE` or more.
    """
    held_out = np.zeros(len(wnids), bool)
    start = 0
    entries = pc.value_counts(wnids).to_pylist()
    all_small = max((entry["counts"] for entry in entries), default=0) < every
    for entry in entries:
        wnid, count = entry["values"], entry["counts"]
        order = np.random.Generator(np.random.PCG64([seed, int(wnid[1:])])).permutation(count)
        held_out[start + order[: int(count >= FROM_SIZE) if all_small and every > FROM_SIZE else count // every]] = True
        start += count
    return held_out
