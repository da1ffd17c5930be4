"""A folder of class folders: `DIR/train/<class>/*.jpg`, `DIR/val/<class>/*.jpg`; a class's folder name is its WNID."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from base.errors import InputError
from data_shards.datasets.dataset import SPLITS, Dataset, ImageClass, PathSource, Sample, Split, as_table

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """Images in one folder for each class, in one folder for each split."""

    root: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.resolve().name

    def classes(self) -> list[ImageClass]:
        """Return the class folders of `train`, in name order."""
        return [ImageClass(name, name) for name in self._classes]

    def splits(self) -> dict[Split, str | None]:
        """Return the splits, and the folders that are missing."""
        folders = {split: self.root / split for split in SPLITS}
        return {split: None if folder.is_dir() else f"no folder {folder}" for split, folder in folders.items()}

    def samples(self, split: Split) -> pa.Table:
        """Return the split's images by class, then by name.

        Raises:
            InputError: the split's folder is missing, a class has no image, or `train` does not have it.
        """
        return as_table(self._samples(split))

    def identity(self, split: Split) -> dict[str, Any]:
        """Return a hash of every file's class, name, size and modification time."""
        digest = sha256()
        for sample in self._samples(split):
            stat = Path(sample.path).stat()
            digest.update(f"{sample.wnid}/{sample.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return {"kind": "folder", "split": split, "files": digest.hexdigest()}

    @cached_property
    def _classes(self) -> list[str]:
        folder = self._split_folder("train")
        names = sorted(_class_folders(folder))
        if len(names) < 2:
            raise InputError(
                f"{folder} holds {len(names)} class folders; expected two or more, one a class, with its images in it"
            )
        return names

    def _samples(self, split: Split) -> list[Sample]:
        folder = self._split_folder(split)
        if unknown := sorted(_class_folders(folder) - set(self._classes)):
            raise InputError(f"{folder} has the class {unknown[0]!r}, but {self.root / 'train'} does not; remove or add it")
        return [sample for wnid in self._classes for sample in _class_samples(folder / wnid)]

    def _split_folder(self, split: Split) -> Path:
        folder = self.root / split
        if not folder.is_dir():
            raise InputError(f"no folder {folder}; expected class folders with images in {self.root}/train and {self.root}/val")
        return folder


class FolderSource(PathSource):
    """Your own folder of class folders."""

    kind: Literal["folder"] = "folder"
    """(ours) The layout."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> ImageFolder:
        """Return the dataset."""
        del unpack_dir, lists
        return ImageFolder(self.existing_folder())


def _class_folders(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}


def _class_samples(folder: Path) -> list[Sample]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not names:
        raise InputError(f"class {folder} is empty; put images ({', '.join(sorted(SUFFIXES))}) in it or remove the class")
    return [Sample(folder.name, name, str(folder / name)) for name in names]
