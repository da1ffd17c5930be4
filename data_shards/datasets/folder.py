"""A folder of class folders: `DIR/train/<class>/*.jpg`, `DIR/val/<class>/*.jpg`; a class's folder name is its WNID.

Images in subfolders of a class belong to it. Names that differ only in how Unicode composes them are the same class.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from base.errors import InputError
from data_shards.datasets.class_lists import choose, existing_list, nfc, suffix_of, unlisted
from data_shards.datasets.dataset import SPLITS, Dataset, ImageClass, PathSource, Sample, Split, UserPath, as_table, in_order
from data_shards.datasets.image_files import IMAGE_SUFFIXES, PassedOver, kind_of_entry, kind_of_file, sorted_entries, walk
from data_shards.datasets.unreadable import broken_link


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """Images in one folder for each class, in one folder for each split: all classes of `train`, or those of a list."""

    root: Path
    wnids: Path | None = None
    """A text file with one class a line; by default all classes of `train`."""

    @property
    def name(self) -> str:
        """The folder's own name; with a list of classes also their number and a digest."""
        return self.root.resolve().name + (suffix_of(self._classes) if self.wnids else "")

    def classes(self) -> list[ImageClass]:
        """Return the class folders of `train`, in name order."""
        return [ImageClass(name, name) for name in self._classes]

    def splits(self) -> dict[Split, str | None]:
        """Return the splits, and the folders that are missing."""
        return {split: None if (self.root / split).is_dir() else self._missing(split) for split in SPLITS}

    def samples(self, split: Split) -> pa.Table:
        """Return the split's images by class, then by name.

        Raises:
            InputError: the split's folder is missing, a class has no image, or `train` does not have it; or two images have the
                same class and name.
        """
        found = self._samples(split)
        counts = Counter(sample.wnid for sample in found)
        for wnid in self._classes:
            if not counts[wnid]:
                raise self._empty_class(self.root / split, wnid)
        return in_order(as_table(found, self.root), self.root / split)

    def passed_over(self, split: Split) -> PassedOver:
        """Return how many files are not images of a class, by kind."""
        passed = PassedOver()
        list(self._images(split, passed))
        passed.add_empty_folders()
        return passed

    def identity(self, split: Split) -> dict[str, Any]:
        """Return a hash of every file's class, name, size and modification time."""
        digest = sha256()
        for sample in self._samples(split):
            stat = Path(sample.path).stat()
            line = f"{sample.wnid}/{sample.name} {stat.st_size} {stat.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return {"kind": "folder", "split": split, "files": digest.hexdigest()}

    @cached_property
    def _classes(self) -> list[str]:
        folder = self._split_folder("train")
        names = sorted(_class_folders(folder))
        if len(names) < 2:
            raise InputError(
                f"{folder} holds {len(names)} class folders; expected two or more, one a class, with its images in it"
            )
        return names if self.wnids is None else choose(self.wnids, names, folder)

    def _samples(self, split: Split) -> list[Sample]:
        folder = self._split_folder(split)
        known = {nfc(wnid) for wnid in self._classes}
        unknown = [] if self.wnids else [name for name in _class_folders(folder) if nfc(name) not in known]
        if unknown:
            raise InputError(f"{folder} has the class {unknown[0]!r}, but {self.root / 'train'} does not; remove or add it")
        return sorted(self._images(split, PassedOver()))

    def _images(self, split: Split, passed: PassedOver) -> Iterator[Sample]:
        """Yield the images of the classes as they are found; count everything else."""
        folder, spelled = self._split_folder(split), {nfc(wnid): wnid for wnid in self._classes}
        for path, kind in walk(folder):
            if passed.is_image(path, kind):
                top, _, name = path.partition("/")
                wnid = spelled.get(nfc(top)) if name else None
                if wnid is not None:
                    yield Sample(wnid, name, str(folder / path))
                elif name and self.wnids is not None:
                    passed.add(unlisted(self.wnids.name), path)
                else:
                    passed.add("images outside class folders", path)

    def _split_folder(self, split: Split) -> Path:
        folder = self.root / split
        if not folder.is_dir():
            missing = f"{self._missing(split)}; expected class folders with images in {self.root}/train and {self.root}/val"
            raise InputError(broken_link(folder) or missing)
        return folder

    def _missing(self, split: Split) -> str:
        """Return what is missing, as a phrase; it names the class folders that are beside the splits instead of in them."""
        found = [name for name in _class_folders(self.root) if name not in SPLITS] if split == "train" else []
        if not found:
            return f"no folder {self.root / split}"
        return (
            f"no folder {self.root / split}, but {len(found):,} other folders in {self.root}, such as {found[0]}: if these are "
            f"classes, move them into train, and some images of each into the same folders in val"
        )

    def _empty_class(self, folder: Path, wnid: str) -> InputError:
        """Return the error for a class without images, which says what its folders hold instead."""
        found = _class_folders(folder).get(wnid) or _class_folders(folder).get(nfc(wnid), [])
        if not found:
            return InputError(
                f"{folder} has no folder for the class {wnid!r}, which {self.root / 'train'} has; add it, or remove the class"
            )
        held = PassedOver()
        for name in found:
            for path, kind in walk(folder / name):
                held.is_image(path, kind)
        held.add_empty_folders()
        what = f"holds no image, but {held}" if held else "is empty"
        return InputError(
            f"class {folder / found[0]} {what}; put images ({', '.join(IMAGE_SUFFIXES)}) in it or remove the class"
        )


class FolderSource(PathSource):
    """Your own folder of class folders."""

    kind: Literal["folder"] = "folder"
    """(ours) The layout."""

    wnids: UserPath | None = None
    """(ours) A text file with the classes to use, one folder's name a line; by default all of them."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> ImageFolder:
        """Return the dataset."""
        del unpack_dir, lists
        return ImageFolder(self.existing_folder(), existing_list(self.wnids))


def _class_folders(folder: Path) -> dict[str, list[str]]:
    """Return the folders of each class; the composed form of Unicode is its name if there are several."""
    found: dict[str, list[str]] = {}
    for entry in sorted_entries(folder):
        if kind_of_entry(entry) == "folders" and kind_of_file(f"{entry.name}/x.jpg") is None:
            found.setdefault(nfc(entry.name), []).append(entry.name)
    return {composed if composed in names else names[0]: names for composed, names in found.items()}
