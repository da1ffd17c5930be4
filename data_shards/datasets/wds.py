"""Any WebDataset tars of labelled images: `train-0000.tar`, `x-train-0000.tar` and so on, with `.cls` or `.json`.

Class names are those of `classes.txt` beside the tars, or of the list that the user gives, one a line in the order of the
numbers; a JSON field may also hold the names themselves. A split is copied once to a plain tar, without the other files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from base.errors import InputError
from data_shards.datasets.class_lists import choose, existing_list, suffix_of, text_lines, unlisted
from data_shards.datasets.dataset import SAMPLES, Dataset, ImageClass, PathSource, Split, in_order
from data_shards.datasets.image_files import PassedOver
from data_shards.datasets.members import read_members, read_passed_over
from data_shards.datasets.packed import PackedImage, check_labelled, copied, copy_said, identities
from data_shards.datasets.unreadable import unreadable_in
from data_shards.datasets.wds_tars import Fields, about_sample, class_number, image_suffix, read_wds

PATTERNS: dict[Split, tuple[str, ...]] = {
    "train": ("train*.tar", "*-train-*.tar"),
    "val": ("val*.tar", "*-val*-*.tar"),
    "test": ("test*.tar", "*-test-*.tar"),
}
CLASS_LIST = "classes.txt"
UNLABELLED = ("", "-1")


@dataclass(frozen=True)
class WebDatasetTars(Dataset):
    """All classes of the tars, or those of a list."""

    root: Path
    unpack_dir: Path
    """The folder for the plain copies."""
    class_list: Path | None = None
    """A text file with the class of each number, in order; by default `classes.txt` in the folder."""
    label: str = "label"
    """The field of `.json` that holds the class of a sample without `.cls`."""
    wnids: Path | None = None
    """A text file with the classes to use, one a line; by default all of them."""
    lists: Mapping[Path, Path] = field(default_factory=dict)
    """The list of members of each plain copy."""

    @property
    def name(self) -> str:
        """The folder's own name; with a list of classes to use also their number and a digest."""
        return self.root.resolve().name + (suffix_of(self._chosen) if self.wnids else "")

    def classes(self) -> list[ImageClass]:
        """Return the classes used, in name order."""
        return [ImageClass(name, name) for name in self._chosen]

    def splits(self) -> dict[Split, str | None]:
        """Return the splits that have tars; train and val with what is missing."""
        missing = {split: None if self._found(split) else self._missing(split) for split in PATTERNS}
        return {split: reason for split, reason in missing.items() if split != "test" or reason is None}

    def archives(self, split: Split) -> list[Path]:
        """Return the plain copy of the split, which is written if it is not there."""
        if not self._found(split):
            raise InputError(self._missing(split))
        what = f"{self.root.resolve().name}-{split}-{self._mark}"
        return [copied(what, self._found(split), self._images(split), self.unpack_dir)]

    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples by class, then by name.

        Raises:
            InputError: a class without images, or two images of one class and name.
        """
        images = self._listed(split)
        check_labelled(images, split, self.root)
        images = images.filter(pc.is_in(images["wnid"], value_set=pa.array([*self._chosen, None], pa.string())))
        absent = set(self._chosen).difference(pc.unique(images["wnid"]).to_pylist())
        if absent and images["wnid"].null_count < len(images):
            raise InputError(f"{self.root} holds no {split} image of {len(absent):,} classes, such as {min(absent)!r}")
        return in_order(images.select(SAMPLES.names).cast(SAMPLES), self.root)

    def passed_over(self, split: Split) -> PassedOver:
        """Return the images of classes that are not on the list of classes to use."""
        passed = read_passed_over([self.lists[copy] for copy in self.archives(split)])
        images = self._listed(split)
        other = images.filter(pc.invert(pc.is_in(images["wnid"], value_set=pa.array([*self._chosen, None], pa.string()))))
        if self.wnids and len(other):
            passed.add(unlisted(self.wnids.name), other["name"][0].as_py(), len(other))
        return passed

    def found(self, split: Split) -> str:
        """Return the number of tars, and their plain copy."""
        return copy_said("WebDataset tars", self._found(split), *self.archives(split))

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the names, sizes and times of the split's tars, and digests of the settings."""
        if not self._found(split):
            raise InputError(self._missing(split))
        used = None if self.wnids is None else sha256(self.wnids.read_bytes()).hexdigest()
        return {"kind": "wds", "split": split, "files": identities(self._found(split)), "classes": self._mark, "wnids": used}

    def _found(self, split: Split) -> list[Path]:
        return next((found for pattern in PATTERNS[split] if (found := sorted(self.root.glob(pattern)))), [])

    def _missing(self, split: Split) -> str:
        return unreadable_in(self.root, PATTERNS[split]) or f"no {' or '.join(PATTERNS[split])} in {self.root}"

    @property
    def _mark(self) -> str:
        """A digest of what decides which class a label stands for."""
        return sha256("\n".join([self.label, *(self._numbered or [])]).encode()).hexdigest()[:6]

    @cached_property
    def _numbered(self) -> list[str] | None:
        """The class of each number; None without a list."""
        path = self.class_list or self.root / CLASS_LIST
        if not path.is_file():
            return None
        names = [line.strip() for line in text_lines(path.read_bytes()) if line.strip()]
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"{path} holds {len(names)} names, {len(set(names))} of them distinct; expected one name a class")
        return names

    @cached_property
    def _known(self) -> list[str]:
        if self._numbered is not None:
            return sorted(self._numbered)
        folders = (pq.read_table(path, columns=["folder"])["folder"].cast(pa.string()) for path in self.lists.values())
        names = {folder for column in folders for folder in pc.unique(column).to_pylist()} - {""}
        if len(names) < 2:
            raise InputError(f"{self.root} holds images of {len(names)} classes; expected two or more, or a list of them")
        return sorted(names)

    @cached_property
    def _chosen(self) -> list[str]:
        return self._known if self.wnids is None else choose(self.wnids, self._known, self.root)

    def _listed(self, split: Split) -> pa.Table:
        (copy,) = self.archives(split)
        images = read_members(copy, self.lists[copy])
        folders = images["folder"].cast(pa.string())
        if self._numbered is None:
            return images.append_column("wnid", pc.if_else(pc.equal(folders, ""), None, folders))
        numbers = pa.array([str(number) for number in range(len(self._numbered))])
        place = pc.index_in(folders, value_set=numbers).combine_chunks()
        return images.append_column("wnid", pa.array(self._numbered, pa.string()).take(place))

    def _images(self, split: Split) -> Iterator[PackedImage]:
        for key, fields in read_wds(self._found(split)):
            if suffix := image_suffix(fields):
                yield PackedImage(self._folder(key, fields), f"{key.replace('/', '_')}.{suffix}", fields[suffix])

    def _folder(self, key: str, fields: Fields) -> str:
        """Return the folder of a sample's class in the copy: its number, or its name without a list; empty without a label."""
        label: Any = class_number(key, fields) if "cls" in fields else about_sample(key, fields).get(self.label)
        if label is None and "cls" not in fields and "json" not in fields:
            raise InputError(f"the sample {key} of {self.root} has neither .cls nor .json; expected its class in one of them")
        if label is None or str(label) in UNLABELLED:
            return ""
        names = self._numbered
        if isinstance(label, str) and names is None and not {"/", "\0"} & set(label):
            return label
        if names is None:
            raise InputError(
                f"the sample {key} of {self.root} has the class {label!r}, of unknown name; put {CLASS_LIST} beside the "
                f"tars, with one name a line in the order of the numbers"
            )
        number = names.index(label) if label in names else label
        if not isinstance(number, int) or not 0 <= number < len(names):
            raise InputError(
                f"the sample {key} of {self.root} has the class {label!r}; expected one of the {len(names):,} listed"
            )
        return str(number)


class WdsSource(PathSource):
    """A folder of WebDataset tars."""

    kind: Literal["wds"] = "wds"
    """(ours) The layout."""

    class_list: Path | None = None
    """(ours) A text file with the class of each number, one a line; by default `classes.txt` beside the tars."""

    label: str = "label"
    """(ours) The field of `.json` that holds the class of a sample without `.cls`."""

    wnids: Path | None = None
    """(ours) A text file with the classes to use, one a line; by default all of them."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> WebDatasetTars:
        """Return the dataset."""
        listed, used = existing_list(self.class_list), existing_list(self.wnids)
        return WebDatasetTars(self.existing_folder(), unpack_dir, listed, self.label, used, lists)
