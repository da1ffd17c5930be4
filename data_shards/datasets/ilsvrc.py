"""ILSVRC-2010 and ILSVRC-2012 from their official archives, which are read in place, or from folders with their contents.

A training archive is a tar with one tar for each synset. Validation and test archives are flat, and their truth follows the
sorted file names [devkit readme]. The test labels of 2012 are not public: its test images have no WNID.

Files of 2012 in another form (`data_shards.datasets.ilsvrc_forms`) are recognised by their names and copied to a plain tar.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from base.errors import InputError
from data_shards.datasets.archive import Tree, open_tree
from data_shards.datasets.class_lists import choose, existing_list, suffix_of, text_lines, unlisted
from data_shards.datasets.dataset import SAMPLES, SPLITS, Dataset, ImageClass, PathSource, Split, in_order
from data_shards.datasets.devkit import Devkit, parse_ground_truth, parse_meta
from data_shards.datasets.finding import find, has_class_folders, need
from data_shards.datasets.ilsvrc_forms import FORMS, MAPPING, SOLUTION, Form, Kaggle, form_of
from data_shards.datasets.image_files import PassedOver
from data_shards.datasets.members import check_classes, read_members, read_passed_over
from data_shards.datasets.packed import copied, copy_said, identities


class Release(NamedTuple):
    """The names of a competition's files, as patterns below the folder that holds them, archives before folders."""

    name: str
    images: dict[Split, tuple[str, ...]]
    devkit: tuple[str, ...]
    truths: dict[Split, str]
    patches: tuple[str, ...]
    """An archive whose images replace blank ones."""
    num_images: dict[Split, int]
    """In the official archives."""


ILSVRC2010 = Release(
    "ilsvrc2010",
    {
        "train": ("ILSVRC2010_images_train.tar", "ILSVRC2010_images_train", "train"),
        "val": ("ILSVRC2010_images_val.tar", "ILSVRC2010_images_val", "val"),
        "test": ("ILSVRC2010_images_test.tar", "ILSVRC2010_images_test", "test"),
    },
    ("ILSVRC2010_devkit*", "devkit-1.0*"),
    {"val": "ILSVRC2010_validation_ground_truth.txt", "test": "ILSVRC2010_test_ground_truth.txt"},
    ("patch_images.tar", "patch_images"),
    {"train": 1_261_406, "val": 50_000, "test": 150_000},
)

ILSVRC2012 = Release(
    "ilsvrc2012",
    {
        "train": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_train", "train", "ILSVRC/Data/CLS-LOC/train"),
        "val": ("ILSVRC2012_img_val.tar", "ILSVRC2012_img_val", "val", "ILSVRC/Data/CLS-LOC/val"),
        "test": (
            *("ILSVRC2012_img_test_v10102019.tar", "ILSVRC2012_img_test*.tar"),  # the first has the images patched in 2019
            *("ILSVRC2012_img_test*", "test", "ILSVRC/Data/CLS-LOC/test"),
        ),
    },
    ("ILSVRC2012_devkit_t12*",),
    {"val": "ILSVRC2012_validation_ground_truth.txt"},
    (),
    {"train": 1_281_167, "val": 50_000, "test": 100_000},
)

RELEASES = {release.name: release for release in (ILSVRC2010, ILSVRC2012)}


@dataclass(frozen=True)
class Ilsvrc(Dataset):
    """One competition's images, in all of its splits whose files exist."""

    release: Release
    root: Path
    """The folder that holds the archives."""
    unpack_dir: Path
    """The folder for the devkit's plain copy."""
    lists: Mapping[Path, Path] = field(default_factory=dict)
    """The list of members of each of `archives`."""
    wnids: Path | None = None
    """A text file with one WNID a line; by default all classes of the competition."""

    @property
    def name(self) -> str:
        """`ilsvrc2010` or `ilsvrc2012`; with a list of classes also their number and a digest."""
        return self.release.name + (suffix_of(self._chosen) if self.wnids else "")

    def classes(self) -> list[ImageClass]:
        """Return the leaves of the devkit's hierarchy; without a devkit the classes that the files list."""
        return [ImageClass(wnid, self._words.get(wnid, wnid)) for wnid in self._chosen]

    def splits(self) -> dict[Split, str | None]:
        """Return the splits, and the first file that is missing of each."""
        return {split: self._missing(split) for split in self.release.images}

    def archives(self, split: Split) -> list[Path]:
        """Return the split's archive or folder, and the one with its patches."""
        patches = find(self.root, self.release.patches)
        return [self._images(split), *([patches] if patches else [])]

    def samples(self, split: Split) -> pa.Table:
        """Return the split's samples by WNID, then by name; those without labels by name.

        Raises:
            InputError: the split's archive, its truth or the devkit is missing; a class is unknown or has no images; the truth
                has another length; or a patch replaces no image.
        """
        images = self._labelled(split)
        if self.wnids:
            images = images.filter(pc.is_in(images["wnid"], value_set=pa.array(self._chosen)))
        return in_order(images, self._images(split))

    def passed_over(self, split: Split) -> PassedOver:
        """Return what the archives' lists of members count, and the images of classes that are not on the list of classes."""
        passed = read_passed_over(self.lists[root] for root in self.archives(split))
        if self.wnids:
            images = self._labelled(split)
            other = images.filter(pc.invert(pc.is_in(images["wnid"], value_set=pa.array(self._chosen))))
            if len(other):
                passed.add(unlisted(self.wnids.name), other["name"][0].as_py(), len(other))
        return passed

    def identity(self, split: Split) -> dict[str, Any]:
        """Return the names, sizes and times of the archives, and hashes of the class list and the truth."""
        truth = self._truth(split)
        return {
            "kind": self.release.name,
            "split": split,
            "archives": identities(form.files(split) if (form := self._form(split)) else self.archives(split)),
            "meta": sha256(self._devkit_files.read("meta.mat") if self._official_devkit else self._listed_words).hexdigest(),
            "truth": None if truth is None else sha256(truth[1]).hexdigest(),
            **({"wnids": sha256(self.wnids.read_bytes()).hexdigest()} if self.wnids else {}),
        }

    def found(self, split: Split) -> str | None:
        """Return the form of the split's files, or which of several archives is read."""
        if form := self._form(split):
            return copy_said(form.name, form.files(split), self._images(split))
        if self._official_devkit is None:
            return f"found Kaggle's folders: classes from {MAPPING}"
        taken = self._images(split)
        others = [path.name for path in sorted(self.root.glob(f"ILSVRC2012_img_{split}*.tar")) if path != taken]
        return f"reading {taken.name} and not {', '.join(others)}" if others else None

    def official_count(self, split: Split) -> int | None:
        """Return how many images the official archive holds."""
        return None if self.wnids else self.release.num_images.get(split)

    def devkit(self) -> Devkit | None:
        """Return the competition's synsets; None without a devkit, if the files list their classes themselves."""
        return None if self._official_devkit is None and self._lists_classes else self._devkit

    @property
    def _official_devkit(self) -> Path | None:
        return find(self.root, self.release.devkit)

    @cached_property
    def _words(self) -> dict[str, str]:
        """The words of each class, from the devkit, Kaggle's list, or the files; empty if none lists the classes."""
        if self._official_devkit or not self._lists_classes:
            return {synset.wnid: synset.words for synset in self._devkit.leaves}
        return next((words for form in FORMS if (words := form(self.root).words())), {})

    @cached_property
    def _wnids(self) -> list[str]:
        """The classes; those of the files' names if nothing lists them."""
        if self._words:
            return sorted(self._words)
        folders = (pq.read_table(path, columns=["folder"])["folder"].cast(pa.string()) for path in self.lists.values())
        found = {wnid for column in folders for wnid in pc.unique(column).to_pylist()} - {""}
        if not found:
            raise InputError(self._no_classes())
        return sorted(found)

    @cached_property
    def _chosen(self) -> list[str]:
        return self._wnids if self.wnids is None else choose(self.wnids, self._wnids, self.root)

    @property
    def _listed_words(self) -> bytes:
        return json.dumps(self._words, sort_keys=True).encode()

    @property
    def _lists_classes(self) -> bool:
        """Whether the classes are known without a devkit."""
        return self.release == ILSVRC2012 and (
            (self.root / MAPPING).is_file() or any(self._form(split) is not None for split in SPLITS)
        )

    def _form(self, split: Split) -> Form | None:
        """Return the form of a split that is in none of the official archives or folders."""
        if self.release != ILSVRC2012 or find(self.root, self.release.images[split]):
            return None
        return form_of(self.root, split)

    @cached_property
    def _devkit_files(self) -> Tree:
        return open_tree(need(self.root, self.release.devkit), self.unpack_dir, marker="meta.mat")

    @cached_property
    def _devkit(self) -> Devkit:
        return parse_meta(self._devkit_files.read("meta.mat"), f"meta.mat of {need(self.root, self.release.devkit)}")

    def _images(self, split: Split) -> Path:
        if form := self._form(split):
            return copied(f"{self.release.name}-{split}", form.files(split), form.images(split), self.unpack_dir)
        return need(self.root, self.release.images[split])

    def _missing(self, split: Split) -> str | None:
        """Return the first missing file that the split needs, as a phrase."""
        if self.wnids and split == "test" and self.release == ILSVRC2012:
            return f"its labels are not public, so {self.wnids.name} cannot choose from its images"
        try:
            if self._form(split):
                return self._no_classes() if split == "test" and not self._words else None
            self._images(split)
            if not self._lists_classes:
                need(self.root, self.release.devkit)
        except InputError as error:
            return str(error)
        in_folders = split not in self.release.truths or has_class_folders(self._images(split))
        labelled = in_folders or self._truth(split) or (split == "val" and self._solution)
        return None if labelled else self._no_truth(split)

    def _no_classes(self) -> str:
        return f"nothing in {self.root} lists its classes; put {MAPPING} or the devkit in it"

    def _no_truth(self, split: Split) -> str:
        return f"no {self.release.truths[split]}, which labels its images, in {self.root} or in the devkit"

    def _truth(self, split: Split) -> tuple[str, bytes] | None:
        """Return the name and the content of the file that labels a split, from beside the archives or from the devkit."""
        name = self.release.truths.get(split)
        if name is None:
            return None
        beside = self.root / name
        if beside.is_file():
            return str(beside), beside.read_bytes()
        if self._official_devkit is None and self._lists_classes:
            return None
        return (name, self._devkit_files.read(name)) if name in self._devkit_files.files else None

    def _labels(self, split: Split, images: pa.Table) -> pa.Array | pa.ChunkedArray:
        """Return each image's WNID, from its folder or from the truth; if there are both, they must agree. Images by name."""
        known, root, truth = self._wnids, self._images(split), self._truth(split)
        folders = images["folder"].cast(pa.string())
        in_classes = split == "train" or not set(known).isdisjoint(pc.unique(folders).to_pylist())
        if in_classes:
            check_classes(folders, known, root)
        if truth is None and in_classes:
            return folders
        if truth is None and split in self.release.truths:
            return self._solved(split, images)
        if truth is None:
            return pa.nulls(len(images), pa.string())
        labels = pa.array(parse_ground_truth("\n".join(text_lines(truth[1])), self._devkit, len(images), truth[0]))
        if in_classes and not labels.equals(folders.combine_chunks()):
            raise InputError(f"the class folders of {root} contradict {truth[0]}; unpack the official archive again")
        return labels

    def _labelled(self, split: Split) -> pa.Table:
        """Return all images of a split, patched, with their WNIDs."""
        if self.wnids and (missing := self._missing(split)):
            raise InputError(missing)
        images, *patches = (read_members(root, self.lists[root]) for root in self.archives(split))
        for patch in patches:
            images = _patched(images, _patches_of(split, patch))
        names = pc.replace_substring_regex(images["name"], ".*/", "")  # the truth follows the files' names, wherever they are
        images = images.take(pc.sort_indices(names))
        return images.append_column("wnid", self._labels(split, images)).select(SAMPLES.names).cast(SAMPLES)

    @cached_property
    def _solution(self) -> dict[str, str]:
        return Kaggle(self.root).solution() if self.release == ILSVRC2012 else {}

    def _solved(self, split: Split, images: pa.Table) -> pa.Array:
        """Return the WNID of each validation image by its name, from Kaggle's solution."""
        if split != "val" or not self._solution:
            raise InputError(self._no_truth(split))
        stems = [name.rpartition("/")[2].rpartition(".")[0] for name in images["name"].to_pylist()]
        if missing := [stem for stem in stems if stem not in self._solution]:
            raise InputError(f"{SOLUTION} does not label {missing[0]} of {self.root}; fetch it again")
        return pa.array([self._solution[stem] for stem in stems], pa.string())


class IlsvrcSource(PathSource):
    """The folder of a competition's archives."""

    kind: Literal["ilsvrc2010", "ilsvrc2012"]
    """[K12 §2] The competition."""

    wnids: Path | None = None
    """(ours) A text file with the classes to use, one WNID a line; by default all of them."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> Ilsvrc:
        """Return the dataset."""
        return Ilsvrc(RELEASES[self.kind], self.existing_folder(), unpack_dir, lists, existing_list(self.wnids))


def _patches_of(split: Split, patches: pa.Table) -> pa.Table:
    for folder in pc.unique(patches["folder"]).to_pylist():
        if folder not in SPLITS:
            raise InputError(f"patch_images.tar holds patches in the folder {folder!r}; expected {', '.join(SPLITS)}")
    return patches.filter(pc.equal(patches["folder"], split))


def _patched(images: pa.Table, patches: pa.Table) -> pa.Table:
    """Return the images; one that has a patch of its name is read from the patch."""
    place = pc.index_in(images["name"], value_set=patches["name"].combine_chunks())
    unused = len(patches) - (len(place) - place.null_count)
    if unused:
        raise InputError(
            f"{unused:,} of {len(patches):,} patch images have no image to replace; these archives belong to different releases"
        )
    columns = ["path", "offset", "size"]
    both = pa.concat_tables([images.select(columns), patches.select(columns)]).unify_dictionaries().combine_chunks()
    source = pc.coalesce(pc.add(place.cast(pa.int64()), len(images)), pa.array(np.arange(len(images))))
    replaced = both.take(source)
    for name in columns:
        images = images.set_column(images.schema.get_field_index(name), name, replaced[name])
    return images
