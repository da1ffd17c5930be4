"""Lists an official archive in one scan, without unpacking it: a tar, a tar of tars, or a folder of either.

Called by `tasks.workers.members`. A member's name is never used as a path to write to: an image is a region of a file.
"""

import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import InputError
from data_shards.datasets.archive import check_end
from data_shards.datasets.finding import WNID, kind_of_entry, sorted_entries
from data_shards.datasets.members import MEMBERS, ROWS_AT_ONCE, ListedImage

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
"""Of files that count as images, in lower or upper case."""


class Scan:
    """Yields the images of an archive or a folder in the order of their bytes, and counts everything else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ignored: Counter[str] = Counter()
        """The number of members of each kind that are not images."""
        self.done = 0.0
        """The fraction of the root that has been scanned."""

    def __iter__(self) -> Iterator[ListedImage]:
        """Yield the images.

        Raises:
            InputError: not a tar, a tar that was cut, a class without images, or a member that no official archive has.
        """
        return self._folder() if self.root.is_dir() else self._tar(self.root, "")

    def _folder(self) -> Iterator[ListedImage]:
        entries = sorted_entries(self.root)
        for number, entry in enumerate(entries):
            kind = kind_of_entry(entry)
            if kind == "folders":
                yield from self._class_folder(entry)
            elif kind is None and is_nested_tar(entry.name):
                yield from _at_least_one(self._tar(Path(entry.path), entry.name), entry.name)
            else:
                yield from self._files([entry], "")
            self.done = (number + 1) / len(entries)

    def _class_folder(self, folder: "os.DirEntry[str]") -> Iterator[ListedImage]:
        images = list(self._files(sorted_entries(folder), folder.name))
        if not images:
            if WNID.fullmatch(folder.name):
                raise _empty_class(folder.path)
            self.ignored["folders"] += 1
        yield from images

    def _files(self, entries: Iterable["os.DirEntry[str]"], folder: str) -> Iterator[ListedImage]:
        for entry in entries:
            if self._is_image(entry.name, kind_of_entry(entry)):
                yield ListedImage("", folder, entry.name, None, entry.stat().st_size)

    def _tar(self, path: Path, archive: str) -> Iterator[ListedImage]:
        size = path.stat().st_size
        with open(path, "rb") as file:
            for tar, member in self._wanted(file, path.name):
                name = PurePosixPath(member.name)
                if is_nested_tar(name.name):
                    where = f"{path.name}: {name.name} at byte {member.offset_data:,}"
                    yield from _at_least_one(self._synset(tar, member, archive, where), where)
                else:
                    folder = PurePosixPath(archive).stem if archive else name.parent.name
                    yield ListedImage(archive, folder, name.name, member.offset_data, member.size)
                if path == self.root:
                    self.done = member.offset_data / size

    def _synset(self, tar: tarfile.TarFile, nested: tarfile.TarInfo, archive: str, name: str) -> Iterator[ListedImage]:
        """Read a nested tar in place."""
        folder = PurePosixPath(nested.name).stem
        for _, member in self._wanted(cast("IO[bytes]", tar.extractfile(nested)), name):
            if is_nested_tar(member.name):
                raise InputError(f"{name} holds another tar, {member.name}; expected nothing but images in a synset's tar")
            offset = nested.offset_data + member.offset_data
            yield ListedImage(archive, folder, PurePosixPath(member.name).name, offset, member.size)

    def _wanted(self, file: IO[bytes], name: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """Yield the images and the tars in a tar; count everything else."""
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if self._is_wanted(member, name):
                        yield tar, member
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep fourteen million of them
                check_end(file, tar)
        except (tarfile.TarError, EOFError) as error:
            raise InputError(f"{name} is not a whole, uncompressed tar ({error}); fetch it again") from error

    def _is_wanted(self, member: tarfile.TarInfo, archive: str) -> bool:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise InputError(
                f"{archive} holds a member named {member.name!r}, which leaves the folder that it is unpacked in; "
                f"no official archive has one: fetch it again"
            )
        if member.issparse():
            raise InputError(
                f"{archive} holds {member.name} with holes, which cannot be read in place; pack it without --sparse"
            )
        kind = _kind_of_member(member)
        return (kind is None and is_nested_tar(path.name)) or self._is_image(path.name, kind)

    def _is_image(self, name: str, other_kind: str | None) -> bool:
        """Return whether a name is that of an image; count it if not."""
        if other_kind is None and not name.startswith("._") and name.lower().endswith(SUFFIXES):
            return True
        self.ignored[other_kind or ("resource forks" if name.startswith("._") else "other files")] += 1
        return False


def write_members(scan: Scan, path: Path) -> Iterator[int]:
    """Write the list of a scan's images; yield how many there are so far.

    Raises:
        InputError: what `Scan` raises, or a name that is not UTF-8.
    """
    images = iter(scan)
    num_images = 0
    with pq.ParquetWriter(path, MEMBERS, compression="zstd") as writer:
        while rows := list(islice(images, ROWS_AT_ONCE)):
            try:
                columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), MEMBERS, strict=True)]
            except UnicodeEncodeError as error:
                raise InputError(f"{scan.root} holds a file name that is not UTF-8 ({error.object!r}); rename it") from error
            writer.write_table(pa.table(columns, schema=MEMBERS))
            num_images += len(rows)
            yield num_images


def is_nested_tar(name: str) -> bool:
    """Return whether a member is itself a tar, of a synset's images."""
    return name.endswith(".tar") and not name.startswith("._")


def _kind_of_member(member: tarfile.TarInfo) -> str | None:
    if member.isreg():
        return None
    return "folders" if member.isdir() else "links" if member.issym() or member.islnk() else "devices"


def _at_least_one(images: Iterator[ListedImage], where: str) -> Iterator[ListedImage]:
    first = next(images, None)
    if first is None:
        raise _empty_class(where)
    yield first
    yield from images


def _empty_class(where: str) -> InputError:
    return InputError(f"{where} holds no image; an official class has at least one: fetch it again, or remove it")
