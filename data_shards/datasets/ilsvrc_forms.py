"""ILSVRC-2012 as people hold it beside the official archives: Hugging Face's files, Kaggle's archive, timm's WebDataset tars.

A form is recognised by its files' names. It yields each image under its official name, so that an image has one key in every
form, and is copied to a plain tar (`data_shards.datasets.packed`). Called by `data_shards.datasets.ilsvrc`.
"""

import csv
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from base.errors import InputError
from data_shards.datasets.archive import Member, readable, tar_members, zip_members
from data_shards.datasets.class_lists import text_lines
from data_shards.datasets.dataset import Split
from data_shards.datasets.finding import WNID
from data_shards.datasets.image_files import kind_of_file
from data_shards.datasets.packed import PackedImage, wnid_and_name
from data_shards.datasets.parquet_files import class_ids, find_parquet, packed_images, read_columns, read_rows
from data_shards.datasets.wds_tars import Fields, about_sample, class_number, image_suffix, read_wds

MAPPING = "LOC_synset_mapping.txt"
"""[Kaggle] A WNID and its words on each line."""

SOLUTION = "LOC_val_solution.csv"
"""[Kaggle] `ImageId,PredictionString`, whose first word is the WNID."""

NUM_MEASURED = 16
"""(ours) Images whose size is looked at; no sixteen originals in a row are squares of one size."""

OFFICIAL_NAME = re.compile(r"n\d{8}_\d+|ILSVRC2012_(val|test)_\d{8}")


@dataclass(frozen=True)
class Form(ABC):
    """One form of the images in a folder."""

    root: Path
    name: ClassVar[str]

    @abstractmethod
    def files(self, split: Split) -> list[Path]:
        """Return the files that hold a split; none if the folder does not have it in this form."""

    @abstractmethod
    def images(self, split: Split) -> Iterator[PackedImage]:
        """Yield the images of a split in folders of their WNIDs; without a folder if the labels are not public."""

    def words(self) -> dict[str, str]:
        """Return the words of every class by WNID; empty if the form does not list its classes."""
        return {}


class HuggingFaceParquet(Form):
    """[huggingface.co/datasets/ILSVRC/imagenet-1k] Parquet files."""

    name = "Hugging Face Parquet"

    def files(self, split: Split) -> list[Path]:
        """Return `data/train-00000-of-00294.parquet` and so on."""
        return find_parquet(self.root, split)

    def images(self, split: Split) -> Iterator[PackedImage]:
        """Yield the images by the WNIDs of their labels.

        Raises:
            InputError: the images are squares of one size, so not those of the competition.
        """
        sizes = [jpeg_size(row.data or b"") for row in islice(read_rows(self.files(split)), NUM_MEASURED)]
        if len(sizes) == NUM_MEASURED and len(set(sizes)) == 1 and sizes[0] is not None and sizes[0][0] == sizes[0][1]:
            side = sizes[0][0]
            raise InputError(
                f"the images in {self.root} are {side} x {side}, scaled and cropped from those of ILSVRC-2012; "
                f"use the dataset parquet, under whose name they do not pass for the originals"
            )
        return packed_images(self.files(split), self._ids, split)

    def words(self) -> dict[str, str]:
        """Return the class names of the schema."""
        files = self._labelled
        return dict(zip(self._ids, read_columns(files[0]).names, strict=True)) if files else {}

    @property
    def _labelled(self) -> list[Path]:
        return self.files("train") or self.files("val")

    @cached_property
    def _ids(self) -> list[str]:
        ids = class_ids(self._labelled) if self._labelled else []
        if wrong := [wnid for wnid in ids if not WNID.fullmatch(wnid)]:
            raise InputError(
                f"the Parquet files in {self.root} name a class {wrong[0]!r}, and their paths tell no WNIDs; "
                f"expected ILSVRC-2012 as ILSVRC/imagenet-1k has it: use the dataset parquet for other images"
            )
        return ids


class HuggingFaceTars(Form):
    """[huggingface.co/datasets/ILSVRC/imagenet-1k, older revisions] Flat tar.gz files."""

    name = "Hugging Face tar.gz"

    def files(self, split: Split) -> list[Path]:
        """Return `train_images_0.tar.gz` and so on."""
        found = {path for folder in (self.root / "data", self.root) for path in folder.glob(f"{split}_images*.tar.gz")}
        return sorted(found)

    def images(self, split: Split) -> Iterator[PackedImage]:
        """Yield the images by the WNIDs at the end of their names."""
        for archive in self.files(split):
            with readable(archive):
                for path, data in _image_files(tar_members(archive)):
                    wnid, name = wnid_and_name(path.rpartition("/")[2])
                    if wnid is None and split != "test":
                        raise InputError(f"{archive} holds {path}, whose name does not end in a WNID; fetch it again")
                    yield PackedImage(wnid or "", name, data)

    def words(self) -> dict[str, str]:
        """Return the entries of `classes.py`, which is beside the archives."""
        lists = (path for folder in (self.root, self.root.parent) if (path := folder / "classes.py").is_file())
        text = next((path.read_text() for path in lists), "")
        return dict(re.findall(r"[\"'](n\d{8})[\"']: ?[\"](.*?)[\"]", text))


class Kaggle(Form):
    """[kaggle.com/c/imagenet-object-localization-challenge] One archive with the folders `ILSVRC/Data/CLS-LOC`."""

    name = "Kaggle's archive"

    def files(self, split: Split) -> list[Path]:
        """Return the zip or the tar.gz; it holds every split."""
        del split
        patterns = ("imagenet_object_localization*.tar.gz", "imagenet-object-localization*.zip")
        return [path for pattern in patterns for path in sorted(self.root.glob(pattern))][:1]

    def images(self, split: Split) -> Iterator[PackedImage]:
        """Yield the images by their folders; those of val by the solution."""
        (archive,) = self.files(split)
        solution, part = self.solution() if split == "val" else {}, f"/CLS-LOC/{split}/"
        with readable(archive):
            for path, data in _image_files(_kaggle_members(archive), part):
                folder, _, name = path.partition(part)[2].rpartition("/")
                if split == "val" and name.rpartition(".")[0] not in solution:
                    raise InputError(f"{archive} holds {path}, which {SOLUTION} does not label; put it beside the archive")
                yield PackedImage(folder if split == "train" else solution.get(name.rpartition(".")[0], ""), name, data)

    def words(self) -> dict[str, str]:
        """Return the classes of `LOC_synset_mapping.txt`."""
        lines = text_lines(self._beside(MAPPING))
        entries = (line.strip().partition(" ") for line in lines if line.strip())
        return {wnid: words or wnid for wnid, _, words in entries}

    def solution(self) -> dict[str, str]:
        """Return the WNID of each validation image, by its name without a suffix, from `LOC_val_solution.csv`."""
        rows = [row for row in csv.reader(text_lines(self._beside(SOLUTION))) if row]
        wrong = [row for row in rows[1:] if len(row) < 2 or not WNID.match(row[1])]
        if rows and (rows[0][:2] != ["ImageId", "PredictionString"] or wrong):
            raise InputError(f"{SOLUTION} holds {(wrong or rows)[0]}; expected ImageId,PredictionString with a WNID first")
        return {row[0]: row[1].split()[0] for row in rows[1:]}

    def _beside(self, name: str) -> bytes:
        """Return a file that is beside the archive or in it; nothing if it is in neither."""
        if (self.root / name).is_file():
            return (self.root / name).read_bytes()
        archive = next(iter(self.files("train")), None)
        if archive is not None and archive.suffix == ".zip":
            with readable(archive), zipfile.ZipFile(archive) as zipped:
                if found := [entry for entry in zipped.namelist() if entry.rpartition("/")[2] == name]:
                    return zipped.read(found[0])
        return b""


class TimmTars(Form):
    """[huggingface.co/datasets/timm/imagenet-1k-wds] WebDataset tars."""

    name = "timm's WebDataset tars"

    def files(self, split: Split) -> list[Path]:
        """Return `imagenet1k-train-0000.tar` and so on."""
        return sorted(self.root.glob(f"imagenet1k-{'validation' if split == 'val' else split}-*.tar"))

    def images(self, split: Split) -> Iterator[PackedImage]:
        """Yield the images by the WNIDs of their keys or JSON; `.cls` must number them as sorted WNIDs are.

        Raises:
            InputError: a sample without a WNID, or classes that are numbered differently.
        """
        numbers: dict[str, int] = {}
        for key, fields in read_wds(self.files(split)):
            if (suffix := image_suffix(fields)) is None:
                continue
            wnid, name = _timm_name(key, about_sample(key, fields))
            if wnid is None and split != "test":
                raise InputError(f"the sample {key} of {self.root} has no WNID in its key or its JSON; fetch the tars again")
            if wnid is not None and "cls" in fields:
                _check_number(numbers, wnid, fields, key)
            yield PackedImage("" if wnid is None else wnid, name, fields[suffix])
        if [numbers[wnid] for wnid in sorted(numbers)] != sorted(numbers.values()):
            raise InputError(f"the tars of {self.root} number their classes in another order than that of sorted WNIDs")


FORMS: tuple[type[Form], ...] = (HuggingFaceParquet, HuggingFaceTars, Kaggle, TimmTars)


def form_of(root: Path, split: Split) -> Form | None:
    """Return the first form in which a folder holds a split."""
    return next((form for form in (kind(root) for kind in FORMS) if form.files(split)), None)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the rows and columns of a JPEG; None if the bytes are not one."""
    place = 2
    while data.startswith(b"\xff\xd8") and place + 9 <= len(data) and data[place] == 0xFF:
        if 0xC0 <= data[place + 1] <= 0xCF and data[place + 1] not in (0xC4, 0xC8, 0xCC):  # [ITU T.81 table B.1] SOF
            return int.from_bytes(data[place + 5 : place + 7]), int.from_bytes(data[place + 7 : place + 9])
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _check_number(numbers: dict[str, int], wnid: str, fields: Fields, key: str) -> None:
    number = class_number(key, fields)
    if numbers.setdefault(wnid, number) != number:
        raise InputError(f"the sample {key} has the class {number}, but {wnid} is {numbers[wnid]} elsewhere; fetch it again")


def _timm_name(key: str, about: dict[str, Any]) -> tuple[str | None, str]:
    """Return the WNID and the official name of a sample."""
    texts = [key, *(str(value) for value in about.values() if isinstance(value, str))]
    wnid = next((found.group() for text in texts if (found := WNID.search(text))), None)
    stem = next((found.group() for text in texts if (found := OFFICIAL_NAME.search(text))), key.rpartition("/")[2])
    return wnid, f"{stem}.JPEG"


def _image_files(members: Iterator[Member], part: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield the path and the bytes of each image whose path has the part."""
    for member, content in members:
        if content is not None and part in f"/{member.name}" and kind_of_file(member.name) is None:
            yield f"/{member.name}", content.read()


def _kaggle_members(archive: Path) -> Iterator[Member]:
    """Yield the members of the tar.gz or of the zip; of the tar.gz in the zip, if it has one."""
    if archive.suffix != ".zip":
        yield from tar_members(archive)
        return
    with zipfile.ZipFile(archive) as zipped:
        inner = [name for name in zipped.namelist() if name.endswith(".tar.gz")]
        if inner:
            with zipped.open(inner[0]) as content:
                yield from tar_members(content)
            return
    yield from zip_members(archive)
