"""Hugging Face's Parquet files of labelled images, read page by page: memory does not depend on the size of row groups.

Called by the datasets that are read from such files.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import InputError
from data_shards.datasets.dataset import Split
from data_shards.datasets.finding import WNID
from data_shards.datasets.packed import PackedImage, with_suffix, wnid_and_name
from data_shards.datasets.unreadable import unreadable

PREFIXES: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}
"""How the files of each split begin; the first that is there is taken."""

NUMBERED = re.compile(r".+-\d+-of-(?P<total>\d+)\.parquet")

ROWS_AT_ONCE = 32
PAGE_BUFFER = 1 << 20
"""Bytes that are read at a time; without a limit a whole row group is."""


class Columns(NamedTuple):
    """What the schema's metadata tells of a file."""

    image: str
    label: str
    names: tuple[str, ...]
    """Of the classes; the position is the label."""


class Row(NamedTuple):
    """One image as it is stored."""

    file: Path
    number: int
    label: int | None
    """None if the truth is not public, which is stored as −1."""
    path: str | None
    data: bytes | None


def find_parquet(root: Path, split: Split) -> list[Path]:
    """Return the files of a split in `root` or its folder `data`; none if there are none.

    Raises:
        InputError: some of a numbered series are missing.
    """
    for folder in (root / "data", root):
        for prefix in PREFIXES[split]:
            files = sorted({*folder.glob(f"{prefix}-*.parquet"), *folder.glob(f"{prefix}.parquet")})
            if files:
                _check_complete(files)
                return files
    return []


def read_columns(file: Path) -> Columns:
    """Return the names of a file's columns and of its classes.

    Raises:
        InputError: the file is not Parquet, or was not written by `datasets` from labelled images.
    """
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(unreadable(file) or f"{file} is not a whole Parquet file ({error}); fetch it again") from error
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    found = {feature.get("_type"): name for name, feature in reversed(features.items()) if isinstance(feature, dict)}
    if not {"Image", "ClassLabel"} <= found.keys():
        raise InputError(
            f"{file} has the columns {', '.join(schema.names)}, and no images with class names in its metadata under "
            f"'huggingface'; expected a file as `datasets` writes it, with the features Image and ClassLabel"
        )
    names = features[found["ClassLabel"]]["names"]
    return Columns(found["Image"], found["ClassLabel"], tuple(names))


def read_rows(files: list[Path], with_data: bool = True) -> Iterator[Row]:
    """Yield the rows of some files in order, in bounded memory; without data, their bytes are neither read nor returned.

    Raises:
        InputError: files with different classes, a label that is none of them, or a file that is damaged.
    """
    first = read_columns(files[0])
    for file in files:
        columns = read_columns(file)
        if columns != first:
            raise InputError(f"{file} has other classes than {files[0].name}; these files belong to different data sets")
        wanted = [columns.label, f"{columns.image}.path", *([f"{columns.image}.bytes"] if with_data else [])]
        number = 0
        try:
            with pq.ParquetFile(file, pre_buffer=False, buffer_size=PAGE_BUFFER) as opened:
                for batch in opened.iter_batches(ROWS_AT_ONCE if with_data else 65_536, columns=wanted):
                    for label, image in zip(batch[columns.label].to_pylist(), batch[columns.image].to_pylist(), strict=True):
                        yield Row(
                            file, number, _checked(label, columns, file), *((image or {}).get(key) for key in ("path", "bytes"))
                        )
                        number += 1
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file} is damaged at row {number:,} or after it ({error}); fetch it again") from error


def class_ids(files: list[Path]) -> list[str]:
    """Return the WNID of each label: its name, or what the paths of its images tell, or else its name.

    A name that several classes have is followed by the label, since names are not identities.

    Raises:
        InputError: the paths of one label tell several WNIDs, or those of several labels one.
    """
    names = read_columns(files[0]).names
    if len(set(names)) == len(names) and all(map(WNID.fullmatch, names)):
        return list(names)
    found: dict[int, str] = {}
    for row in read_rows(files, with_data=False):
        wnid = wnid_and_name(_base(row.path))[0] if row.path else None
        if wnid is None or row.label is None:
            return [f"{name} ({label})" if names.count(name) > 1 else name for label, name in enumerate(names)]
        if found.setdefault(row.label, wnid) != wnid:
            raise InputError(
                f"{row.file}: {row.path} has the label {row.label}, which is {found[row.label]} elsewhere; fetch it again"
            )
    if len(set(found.values())) < len(names):
        raise InputError(
            f"{files[0].parent} has {len(names):,} class names, but its paths tell {len(set(found.values())):,} WNIDs"
        )
    return [found[label] for label in range(len(names))]


def packed_images(files: list[Path], ids: list[str], split: Split) -> Iterator[PackedImage]:
    """Yield the images of a split for its copy, each in the folder of its WNID, or of its label if that is not a WNID.

    Raises:
        InputError: what `read_rows` raises, an image that is not in the file, or a path with another WNID than the label's.
    """
    for row in read_rows(files):
        if row.data is None:
            raise InputError(
                f"{row.file}: row {row.number:,} has no bytes, only the path {row.path!r}; embed the images in the files"
            )
        wnid, name = (
            wnid_and_name(_base(row.path)) if row.path else (None, f"{split}-{files.index(row.file):05d}-{row.number:06d}")
        )
        if row.label is not None and wnid is not None and WNID.fullmatch(ids[row.label]) and wnid != ids[row.label]:
            raise InputError(
                f"{row.file}: {row.path} has the label {row.label}, which is {ids[row.label]}; "
                f"this file numbers its classes differently from its list of names"
            )
        yield PackedImage(folder_of(row.label, ids), with_suffix(name, row.data), row.data)


def folder_of(label: int | None, ids: list[str]) -> str:
    """Return the folder of a class in the copy; empty without a label."""
    return "" if label is None else ids[label] if WNID.fullmatch(ids[label]) else str(label)


def _base(path: str) -> str:
    """Return a path as one name: its last part, which is what `datasets` stores."""
    return path.replace("\\", "/").rpartition("/")[2]


def _checked(label: int | None, columns: Columns, file: Path) -> int | None:
    if label is None or label == -1:
        return None
    if not 0 <= label < len(columns.names):
        raise InputError(f"{file} has the label {label}, but {len(columns.names):,} class names; expected one name a label")
    return label


def _check_complete(files: list[Path]) -> None:
    totals = {int(found["total"]) for file in files if (found := NUMBERED.fullmatch(file.name))}
    if totals and totals != {len(files)}:
        raise InputError(
            f"{files[0].parent} holds {len(files):,} files such as {files[0].name}; expected {max(totals):,}: fetch the rest"
        )
