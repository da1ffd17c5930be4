"""Image classification in Parquet files as Hugging Face's `datasets` writes them: `data/train-00000-of-00294.parquet`.

A column of images, struct<bytes, path>, and one of labels, whose class names are in the schema's metadata under `huggingface`.
A split is copied once to a plain tar, page by page, so memory depends neither on the size of a file nor on its row groups.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from base.errors import InputError
from data_shards.datasets.class_lists import choose, existing_list, suffix_of, unlisted
from data_shards.datasets.dataset import SAMPLES, Dataset, ImageClass, PathSource, Split, in_order
from data_shards.datasets.image_files import PassedOver
from data_shards.datasets.members import read_members, read_passed_over
from data_shards.datasets.packed import check_labelled, copied, copy_said, identities
from data_shards.datasets.parquet_files import PREFIXES, class_ids, find_parquet, folder_of, packed_images, read_columns
from data_shards.datasets.unreadable import unreadable_in


@dataclass(frozen=True)
class ImageParquet(Dataset):
    """Images in Parquet files: all classes, or those of a list."""

    root: Path
    unpack_dir: Path
    """The folder for the plain copies."""
    wnids: Path | None = None
    """A text file with one class a line; by default all of them."""
    lists: Mapping[Path, Path] = field(default_factory=dict)
    """The list of members of each plain copy."""

    @property
    def name(self) -> str:
        """The folder's own name; with a list of classes also their number and a digest."""
        return self.root.resolve().name + (suffix_of(self._chosen) if self.wnids else "")

    def classes(self) -> list[ImageClass]:
        """Return the classes used, in the order of their WNIDs."""
        words = dict(zip(self._ids, read_columns(self._files("train")[0]).names, strict=True))
        return [ImageClass(wnid, words[wnid]) for wnid in self._chosen]

    def splits(self) -> dict[Split, str | None]:
        """Return the splits that have files; train and val with what is missing."""
        missing = {split: None if find_parquet(self.root, split) else self._missing(split) for split in PREFIXES}
        return {split: reason for split, reason in missing.items() if split != "test" or reason is None}

    def archives(self, split: Split) -> list[Path]:
        """Return the plain copy of the split, which is written if it is not there."""
        files = self._files(split)
        if read_columns(files[0]).names != read_columns(self._files("train")[0]).names:
            raise InputError(
                f"{files[0]} has other classes than the training images; these files belong to different data sets"
            )
        return [copied(f"{self.root.resolve().name}-{split}", files, packed_images(files, self._ids, split), self.unpack_dir)]

    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples by class, then by name.

        Raises:
            InputError: a class without images, or two images of one class and name.
        """
        (copy,) = self.archives(split)
        images = self._with_wnids(read_members(copy, self.lists[copy]))
        check_labelled(images, split, self.root)
        if self.wnids:
            images = images.filter(pc.is_in(images["wnid"], value_set=pa.array(self._chosen)))
        absent = set(self._chosen).difference(pc.unique(images["wnid"]).to_pylist())
        if absent and images["wnid"].null_count < len(images):
            raise InputError(
                f"{self.root} holds no {split} image of {len(absent):,} classes, such as {min(absent)!r}; fetch it again"
            )
        return in_order(images.select(SAMPLES.names).cast(SAMPLES), self.root)

    def passed_over(self, split: Split) -> PassedOver:
        """Return the images of classes that are not on the list of classes."""
        (copy,) = self.archives(split)
        passed = read_passed_over([self.lists[copy]])
        if self.wnids:
            images = self._with_wnids(read_members(copy, self.lists[copy]))
            other = images.filter(pc.invert(pc.is_in(images["wnid"], value_set=pa.array(self._chosen))))
            if len(other):
                passed.add(unlisted(self.wnids.name), other["name"][0].as_py(), len(other))
        return passed

    def found(self, split: Split) -> str:
        """Return the number of files, and their plain copy."""
        return copy_said("Hugging Face Parquet", self._files(split), *self.archives(split))

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the names, sizes and times of the split's files, and a digest of the classes."""
        classes = sha256("\n".join(self._chosen).encode()).hexdigest()
        return {"kind": "parquet", "split": split, "files": identities(self._files(split)), "classes": classes}

    @cached_property
    def _ids(self) -> list[str]:
        return class_ids(self._files("train"))

    @cached_property
    def _chosen(self) -> list[str]:
        return sorted(self._ids) if self.wnids is None else choose(self.wnids, self._ids, self.root)

    def _files(self, split: Split) -> list[Path]:
        if files := find_parquet(self.root, split):
            return files
        raise InputError(self._missing(split))

    def _missing(self, split: Split) -> str:
        expected = " or ".join(f"{prefix}-*.parquet" for prefix in PREFIXES[split])
        missing = f"no {expected} in {self.root} or in its folder data"
        return unreadable_in(self.root, PREFIXES[split]) or missing

    def _with_wnids(self, images: pa.Table) -> pa.Table:
        """Return images with their WNIDs instead of the copy's folders."""
        folders = pa.array([folder_of(label, self._ids) for label in range(len(self._ids))])
        place = pc.index_in(images["folder"].cast(pa.string()), value_set=folders)
        return images.append_column("wnid", pa.array(self._ids, pa.string()).take(place.combine_chunks()))


class ParquetSource(PathSource):
    """A folder of Parquet files."""

    kind: Literal["parquet"] = "parquet"
    """(ours) The layout."""

    wnids: Path | None = None
    """(ours) A text file with the classes to use, one a line; by default all of them."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> ImageParquet:
        """Return the dataset."""
        return ImageParquet(self.existing_folder(), unpack_dir, existing_list(self.wnids), lists)
