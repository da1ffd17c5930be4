"""Test sets that came after ILSVRC-2012: a folder or an archive with one folder of images for each class.

Each set's own module says which class a folder is. Class indices are those of the networks that are tested, so that their
probabilities have the same order on every set.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from base.errors import InputError
from data_shards.datasets.archive import plain_tar
from data_shards.datasets.class_lists import choose, existing_list, read_wnids, suffix_of, unlisted
from data_shards.datasets.dataset import SAMPLES, Dataset, ImageClass, PathSource, Split, UserPath, in_order
from data_shards.datasets.finding import ARCHIVE_SUFFIXES, identity
from data_shards.datasets.image_files import PassedOver, kind_of_entry, sorted_entries
from data_shards.datasets.members import read_members, read_passed_over

UNKNOWN = "images of classes that the networks do not have"

NUM_CLASSES = 1000
"""[K12 §2] Classes of ILSVRC-2012. The name of a set shows if networks have fewer."""


@dataclass(frozen=True)
class LabelledFolders(Dataset):
    """A test set: all of its classes, those that the networks have, or those of a list."""

    root: Path
    """The archive, the folder that holds the class folders, or one that holds either."""
    unpack_dir: Path
    """The folder for a compressed archive's plain copy."""
    known: tuple[str, ...] = ()
    """The WNIDs that the networks have, in the order of the class index; by default those of the set."""
    wnids: Path | None = None
    """A text file with one WNID a line; by default all classes."""
    lists: Mapping[Path, Path] = field(default_factory=dict)
    """The list of members of the archive."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the whole set is called in tables: `imagenet-a`."""

    @property
    @abstractmethod
    def patterns(self) -> tuple[str, ...]:
        """The names of its archive or folder."""

    @abstractmethod
    def is_class_folder(self, name: str) -> bool:
        """Return whether a folder's name can be that of a class."""

    @abstractmethod
    def wnids_of(self, folders: list[str]) -> list[str]:
        """Return the WNID of each folder.

        Raises:
            InputError: a folder that is not a class.
        """

    @property
    def name(self) -> str:
        """The set's name; with a list of classes, or networks of fewer than 1,000, also their number and a digest."""
        if self.wnids is not None:
            return self.kind + suffix_of(read_wnids(self.wnids))
        return self.kind + (suffix_of(self.known) if self.known and len(self.known) < NUM_CLASSES else "")

    def classes(self) -> list[ImageClass]:
        """Return the networks' classes; without networks those of the set that are used."""
        return [ImageClass(wnid, wnid) for wnid in self.known or self._used]

    def splits(self) -> dict[Split, str | None]:
        """Return test, with what is missing."""
        try:
            self._images  # noqa: B018  # searches the folder
        except InputError as error:
            return {"test": str(error)}
        return {"test": None}

    def archives(self, split: Split) -> list[Path]:
        """Return the folder or the archive; a compressed one is first copied to a plain tar."""
        if split != "test":
            raise InputError(f"{self.root} is a test set, which has no split {split}; its split is test")
        return [self._listed]

    def samples(self, split: Split) -> pa.Table:
        """Return the images of the classes used by WNID, then by name.

        Raises:
            InputError: a folder that is not a class, no class that the networks have, or two images of one class and name.
        """
        del split
        images = self._labelled
        return in_order(images.filter(self._is_used(images)).select(SAMPLES.names).cast(SAMPLES), self._images)

    def passed_over(self, split: Split) -> PassedOver:
        """Return what the list of members counts, and the images of classes that are not used."""
        del split
        passed, images = read_passed_over([self.lists[self._listed]]), self._labelled
        others = images.filter(pc.invert(self._is_used(images)))
        if len(others):
            example = f"{others['wnid'][0].as_py()}/{others['name'][0].as_py()}"
            passed.add(UNKNOWN if self.wnids is None else unlisted(self.wnids.name), example, len(others))
        return passed

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the archive's identity, and digests of the classes."""
        return {
            "kind": self.kind,
            "split": split,
            "archives": [identity(self._images)],
            "classes": digest_of(self.known),
            "wnids": None if self.wnids is None else digest_of(read_wnids(self.wnids)),
        }

    def found(self, split: Split) -> str:
        """Return how many classes are tested, and which plain copy is read."""
        del split
        said = f"found {self.kind}: images of {len(self._used):,} of its {len(self._folders):,} classes"
        return said + (f", read from the plain copy {self._listed}" if self._listed != self._images else "")

    @cached_property
    def _images(self) -> Path:
        """The archive or the folder that holds the class folders."""
        if not self.root.is_dir() or self._has_classes(self.root):
            return self.root
        found = [path for pattern in self.patterns for path in sorted(self.root.glob(pattern)) if self._may_hold(path)]
        if len(found) != 1:
            what = f"{found[0].name} and {found[1].name}" if found else f"no {' or '.join(self.patterns)}, nor class folders"
            raise InputError(f"{self.root} holds {what}; give the path of one archive or folder of the test set")
        return found[0]

    def _may_hold(self, path: Path) -> bool:
        return self._has_classes(path) if path.is_dir() else path.name.endswith(ARCHIVE_SUFFIXES)

    def _has_classes(self, folder: Path) -> bool:
        entries = sorted_entries(folder)
        return any(self.is_class_folder(entry.name) and kind_of_entry(entry) == "folders" for entry in entries)

    @cached_property
    def _listed(self) -> Path:
        return plain_tar(self._images, self.unpack_dir)

    @cached_property
    def _folders(self) -> dict[str, str]:
        """The WNID of each folder of images."""
        column = pq.read_table(self.lists[self._listed], columns=["folder"])["folder"].cast(pa.string())
        folders = sorted(pc.unique(column).to_pylist())
        return dict(zip(folders, self.wnids_of(folders), strict=True))

    @cached_property
    def _used(self) -> list[str]:
        found = sorted(self._folders.values())
        used = found if self.wnids is None else choose(self.wnids, found, self.root)
        used = [wnid for wnid in used if not self.known or wnid in set(self.known)]
        if len(used) < 2:
            raise InputError(
                f"{self._images} has images of {len(used)} of the {len(self.known):,} classes that the networks have; "
                f"expected two or more"
            )
        return used

    @cached_property
    def _labelled(self) -> pa.Table:
        """All images with their WNIDs."""
        images = read_members(self._listed, self.lists[self._listed])
        place = pc.index_in(images["folder"].cast(pa.string()), value_set=pa.array(list(self._folders)))
        return images.append_column("wnid", pa.array(list(self._folders.values()), pa.string()).take(place.combine_chunks()))

    def _is_used(self, images: pa.Table) -> pa.ChunkedArray:
        return pc.is_in(images["wnid"], value_set=pa.array(self._used))


def digest_of(wnids: Sequence[str]) -> str:
    """Return the SHA-256 of a list of WNIDs."""
    return sha256("\n".join(wnids).encode()).hexdigest()


class LabelledFoldersSource(PathSource):
    """The archive or the folder of a test set."""

    classes: tuple[str, ...] = ()
    """(ours) The WNIDs that the networks have, in the order of the class index; by default those of the set."""

    wnids: UserPath | None = None
    """(ours) A text file with the classes to use, one WNID a line; by default all of them."""

    def files(self) -> tuple[Path, tuple[str, ...], Path | None]:
        """Return the path, the networks' classes and the list of classes, which exist.

        Raises:
            InputError: one is missing.
        """
        return self.existing_path(), self.classes, existing_list(self.wnids)
