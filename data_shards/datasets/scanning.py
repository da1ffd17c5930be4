"""Lists an official archive in one scan, without unpacking it: a tar, a tar of tars, or a folder of either.

Called by `tasks.workers.members`. A member's name is never used as a path to write to: an image is a region of a file.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import InputError
from data_shards.datasets.archive import check_end, check_holes, follow, target_of, with_slashes
from data_shards.datasets.finding import WNID
from data_shards.datasets.image_files import PassedOver, kind_of_entry, not_utf8, printable, sorted_entries, walk
from data_shards.datasets.members import MEMBERS, PASSED_OVER, ROWS_AT_ONCE, ListedImage
from data_shards.datasets.unreadable import compression_of

Members = Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]


class Scan:
    """Yields the images of an archive or a folder in the order of their bytes, and counts everything else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ignored = PassedOver()
        """The number of members of each kind that are not images."""
        self.done = 0.0
        """The fraction of the root that has been scanned."""

    def __iter__(self) -> Iterator[ListedImage]:
        """Yield the images.

        Raises:
            InputError: not a tar, a tar that was cut, a class without images, or a member that no official archive has.
        """
        yield from self._folder() if self.root.is_dir() else self._tar(self.root, "")
        for folder in self.ignored.add_empty_folders():
            if WNID.fullmatch(_last(folder)) and ".tar/" not in folder:
                raise _empty_class(f"{self.root}/{folder}")

    def _folder(self) -> Iterator[ListedImage]:
        entries = sorted_entries(self.root)
        for number, entry in enumerate(entries):
            kind = kind_of_entry(entry)
            if kind == "folders":
                yield from self._class_folder(entry)
            elif kind is None and is_nested_tar(entry.name):
                yield from _at_least_one(self._tar(Path(entry.path), entry.name), entry.name)
            elif self.ignored.is_image(entry.name, kind):
                yield ListedImage("", "", entry.name, None, entry.stat().st_size)
            self.done = (number + 1) / len(entries)

    def _class_folder(self, folder: "os.DirEntry[str]") -> Iterator[ListedImage]:
        self.ignored.is_image(folder.name, "folders")
        for name, kind in walk(Path(folder.path)):
            if self.ignored.is_image(f"{folder.name}/{name}", kind):
                yield ListedImage("", folder.name, name, None, Path(folder.path, name).stat().st_size)

    def _tar(self, path: Path, archive: str) -> Iterator[ListedImage]:
        """Read the root, or with `archive` a synset's tar in it."""
        size, names = path.stat().st_size, _Names()
        prefix, renamed = (f"{archive}/", str) if archive else ("", with_slashes)
        with open(path, "rb") as file:
            for tar, member in self._wanted(file, path.name, prefix, renamed):
                name = _last(member.name)
                if is_nested_tar(name):
                    where = f"{path.name}: {printable(name)} at byte {member.offset_data:,}"
                    yield from _at_least_one(self._synset(tar, member, archive, where), where)
                elif archive:
                    yield ListedImage(
                        archive, PurePosixPath(archive).stem, names.of(member.name), member.offset_data, member.size
                    )
                else:
                    yield ListedImage("", *_class_and_name(normpath(member.name)), member.offset_data, member.size)
                if path == self.root:
                    self.done = member.offset_data / size

    def _synset(self, tar: tarfile.TarFile, nested: tarfile.TarInfo, archive: str, where: str) -> Iterator[ListedImage]:
        """Read a nested tar in place."""
        folder, names = PurePosixPath(nested.name).stem, _Names()
        for _, member in self._wanted(cast("IO[bytes]", tar.extractfile(nested)), where, f"{folder}.tar/", str):
            if is_nested_tar(_last(member.name)):
                raise InputError(f"{where} holds another tar, {member.name}; expected nothing but images in a synset's tar")
            yield ListedImage(archive, folder, names.of(member.name), nested.offset_data + member.offset_data, member.size)

    def _wanted(self, file: IO[bytes], where: str, prefix: str, renamed: Callable[[str], str]) -> Members:
        """Yield the images and the tars in a tar, then the links to its files; count everything else.

        Members are judged by `prefix` and their name.
        """
        links: list[tarfile.TarInfo] = []
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    member.name = renamed(member.name)
                    _check_member(member, where)
                    if member.islnk() or member.issym():
                        links.append(member)
                    elif self._is_wanted(member, prefix):
                        yield tar, member
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep fourteen million of them
                check_end(file, tar)
            if links:
                yield from self._linked(file, links, prefix)
        except (tarfile.TarError, EOFError) as error:
            if compression := compression_of(file):
                raise InputError(f"{where} is compressed with {compression}; expected a plain tar: unpack it first") from error
            raise InputError(f"{where} is not a whole, uncompressed tar ({error}); fetch it again") from error

    def _linked(self, file: IO[bytes], links: list[tarfile.TarInfo], prefix: str) -> Members:
        """Yield the links that lead to a file of the tar, each with the place of its target's bytes."""
        targets = {normpath(link.name): target_of(link) for link in links}
        ends = {name: follow(name, targets) for name in targets}
        needed, found = set(ends.values()), {}
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                name = normpath(with_slashes(member.name))
                if member.isreg() and name in needed:
                    found[name] = member.offset_data, member.size
                tar.members.clear()  # type: ignore[attr-defined]  # likewise
            for link in links:
                target = found.get(ends[normpath(link.name)])
                followed = target is not None and not is_nested_tar(_last(link.name))
                if self.ignored.is_image(f"{prefix}{link.name}", None if followed else "links") and target is not None:
                    link.offset_data, link.size = target
                    yield tar, link

    def _is_wanted(self, member: tarfile.TarInfo, prefix: str) -> bool:
        name, kind = normpath(member.name), _kind_of_member(member)
        if kind is None and is_nested_tar(_last(name)) and "__MACOSX" not in name.split("/"):
            return True
        return name != "." and self.ignored.is_image(f"{prefix}{name}", kind)


class _Names:
    """The names of the images of one synset's tar: a file's name alone or, if another one has it, its path in the tar."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, path: str) -> str:
        name = _last(path)
        name = normpath(path) if name in self._taken else name
        self._taken.add(name)
        return name


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
                raise not_utf8(scan.root, error.object) from error
            writer.write_table(pa.table(columns, schema=MEMBERS))
            num_images += len(rows)
            yield num_images
        writer.add_key_value_metadata({PASSED_OVER: scan.ignored.to_json()})


def is_nested_tar(name: str) -> bool:
    """Return whether a member is itself a tar, of a synset's images."""
    return name.endswith(".tar") and not name.startswith("._")


def _last(path: str) -> str:
    """Return the name without its folders; `PurePosixPath` takes 2 µs."""
    return path.rpartition("/")[2]


def _check_member(member: tarfile.TarInfo, archive: str) -> None:
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise InputError(
            f"{archive} holds a member named {member.name!r}, which leaves the folder that it is unpacked in; "
            f"no official archive has one: fetch it again"
        )
    check_holes(member, archive)


def _class_and_name(path: str) -> tuple[str, str]:
    """Return the folder that names an image's class, the innermost WNID if there is one, and the image's path below it."""
    *folders, name = path.split("/")
    for place in reversed(range(len(folders))):
        if WNID.fullmatch(folders[place]):
            return folders[place], "/".join([*folders[place + 1 :], name])
    return (folders[-1] if folders else ""), name


def _kind_of_member(member: tarfile.TarInfo) -> str | None:
    if member.isreg():
        return None
    return "folders" if member.isdir() else "devices"


def _at_least_one(images: Iterator[ListedImage], where: str) -> Iterator[ListedImage]:
    first = next(images, None)
    if first is None:
        raise _empty_class(where)
    yield first
    yield from images


def _empty_class(where: str) -> InputError:
    return InputError(f"{where} holds no image; an official class has at least one: fetch it again, or leave it out")
