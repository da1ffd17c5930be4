"""Images in files that no worker can read at random: each split is copied once to a plain tar of class folders.

The copy takes as much disk as the images, and the memory of one image. Called by the datasets that are read from Parquet, from
WebDataset tars and from compressed archives.
"""

import io
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from base.errors import InputError
from data_shards.datasets.archive import Member, copy_once
from data_shards.datasets.dataset import Split
from data_shards.datasets.finding import identity
from data_shards.datasets.image_files import kind_of_file

ENDS_IN_WNID = re.compile(r"(?P<stem>.+)_(?P<wnid>n\d{8})(?P<suffix>\.[^./]+)?")
BEGINS_WITH_WNID = re.compile(r"(?P<wnid>n\d{8})_\d+(\.[^./]+)?")

SUFFIXES = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"RIFF": ".webp",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*": ".tif",
    b"MM": ".tif",
}
"""By the first bytes of an image."""


class PackedImage(NamedTuple):
    """One image, and where it goes in the copy."""

    folder: str
    """Of its class; empty without a label."""
    name: str
    data: bytes


def wnid_and_name(name: str) -> tuple[str | None, str]:
    """Return the WNID that a file's name has at its end or at its beginning, if any, and the official name.

    `n01440764_10026_n01440764.JPEG` was `n01440764_10026.JPEG`.
    """
    if found := ENDS_IN_WNID.fullmatch(name):
        return found["wnid"], found["stem"] + (found["suffix"] or "")
    found = BEGINS_WITH_WNID.fullmatch(name)
    return (found["wnid"] if found else None), name


def with_suffix(name: str, data: bytes) -> str:
    """Return a name that ends as an image's does."""
    if kind_of_file(name) is None:
        return name
    return name + next((suffix for magic, suffix in SUFFIXES.items() if data.startswith(magic)), ".jpg")


def copied(what: str, files: list[Path], images: Iterable[PackedImage], unpack_dir: Path) -> Path:
    """Return the plain tar with the images of some files; `what` begins its name. It is written if it is not there."""
    mark = "\n".join(str(identity(file)) for file in files)
    return copy_once(what, mark, unpack_dir, map(_member, images), sum(file.stat().st_size for file in files))


def copy_said(form: str, files: list[Path], copy: Path) -> str:
    """Return what the plan says of the copy."""
    read, written = (sum(path.stat().st_size for path in paths) for paths in (files, [copy]))
    return f"found {form}: {len(files):,} files of {read:,} bytes, read from their plain copy {copy} of {written:,} bytes"


def check_labelled(images: pa.Table, split: Split, root: Path) -> None:
    """Check that images have classes, unless they are for testing: then their labels may not be public, which is stored as −1.

    Raises:
        InputError: an image of another split without a class.
    """
    unlabelled = images.filter(pc.is_null(images["wnid"]))
    if len(unlabelled) and split != "test":
        raise InputError(
            f"{root} holds {len(unlabelled):,} {split} images without a label, or with the label -1, such as "
            f"{unlabelled['name'][0].as_py()}; expected a label for each image that is not for testing"
        )


def identities(files: list[Path]) -> list[dict[str, Any]]:
    """Return the names, sizes and times of files."""
    return [identity(file) for file in files]


def _member(image: PackedImage) -> Member:
    member = tarfile.TarInfo(f"{image.folder}/{image.name}" if image.folder else image.name)
    member.size = len(image.data)
    return member, io.BytesIO(image.data)
