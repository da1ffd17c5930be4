"""A folder of class folders: `DIR/train/<class>/*.jpg`, `DIR/val/<class>/*.jpg`; a class's folder name stands for its WNID."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_shards.datasets.dataset import SPLITS, Dataset, ImageClass, Sample, Split, as_rows, as_table

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """Images in one folder a class, one folder of those a split."""

    root: Path

    @property
    def name(self) -> str:  # type: ignore[override]  # read-only here
        """The folder's own name."""
        return self.root.resolve().name

    def classes(self) -> list[ImageClass]:
        """Return the class folders of `train`, in name order."""
        folder = self._split_folder("train")
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if len(names) < 2:
            raise ValueError(
                f"{folder} holds {len(names)} class folders; expected two or more, one a class, with its images in it"
            )
        return [ImageClass(name, name) for name in names]

    def splits(self) -> dict[Split, str | None]:
        """Return the splits, and which of their folders are missing."""
        folders = {split: self.root / split for split in SPLITS}
        return {split: None if folder.is_dir() else f"no folder {folder}" for split, folder in folders.items()}

    def samples(self, split: Split) -> pa.Table:
        """Return the split's images by class, then by name.

        Raises:
            FileNotFoundError: the split's folder is not there.
            ValueError: a class without an image, or one that `train` does not have.
        """
        folder = self._split_folder(split)
        known = [name for name, _ in self.classes()]
        unknown = sorted({entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."} - set(known))
        if unknown:
            raise ValueError(f"{folder} has the class {unknown[0]!r}, which {self.root / 'train'} has not; remove or add it")
        return as_table(sample for wnid in known for sample in _class_samples(folder / wnid))

    def identity(self, split: Split) -> dict[str, Any]:
        """Return a digest over every file's class, name, size and time of change."""
        digest = sha256()
        for sample in as_rows(self.samples(split)):
            stat = Path(sample.path).stat()
            digest.update(f"{sample.wnid}/{sample.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return {"kind": "folder", "split": split, "files": digest.hexdigest()}

    def _split_folder(self, split: Split) -> Path:
        folder = self.root / split
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no folder {folder}; expected class folders with images in {self.root}/train and {self.root}/val"
            )
        return folder


def _class_samples(folder: Path) -> list[Sample]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not names:
        raise ValueError(f"class {folder} is empty; put images ({', '.join(sorted(SUFFIXES))}) in it or remove the class")
    return [Sample(folder.name, name, str(folder / name)) for name in names]
