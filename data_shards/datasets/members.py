"""What lies in an official archive, listed in one scan and without unpacking: a tar, a tar of tars, or a folder of either.

Called by `tasks.workers.members`; the datasets read the list that it makes. Nothing is ever written under a member's name: an
image is a region of a file, and its name is only a name.
"""

import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_shards.datasets.archive import check_end

WNID = re.compile(r"n\d{8}")
"""[devkit-1.0 readme] How a synset is named, and its tar."""

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
"""Of what counts as an image, whatever is in it; in either case of letters."""

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

ROWS_AT_ONCE = 65_536

MEMBERS = pa.schema(
    [
        pa.field("archive", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("folder", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64(), nullable=False),
    ]
)
"""The columns of a list of members; a row is a `Member`."""


class Member(NamedTuple):
    """One image, and where its bytes are."""

    archive: str
    """The file that holds it, below the root that was scanned; empty where it is the root, or where the image is a file."""
    folder: str
    """The synset's tar or the folder that it lies in, a WNID where images are sorted by class; empty for none."""
    name: str
    offset: int | None
    """Of the image's first byte in the archive; None where the image is a file."""
    size: int


class Scan:
    """The images of an archive or a folder, one after another, and a count of everything else that lies there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ignored: Counter[str] = Counter()
        """How many members of each kind are not images."""
        self.done = 0.0
        """Share of the root that has been scanned."""

    def __iter__(self) -> Iterator[Member]:
        """Yield the images in the order in which they lie.

        Raises:
            ValueError: not a tar, one that was cut short, a class without images, or a member that no official archive has.
        """
        return self._folder() if self.root.is_dir() else self._tar(self.root, "")

    def _folder(self) -> Iterator[Member]:
        entries = _sorted_entries(self.root)
        for number, entry in enumerate(entries):
            kind = _kind_of_entry(entry)
            if kind == "folders":
                yield from self._class_folder(entry)
            elif kind is None and is_nested_tar(entry.name):
                yield from _at_least_one(self._tar(Path(entry.path), entry.name), entry.name)
            else:
                yield from self._files([entry], "")
            self.done = (number + 1) / len(entries)

    def _class_folder(self, folder: "os.DirEntry[str]") -> Iterator[Member]:
        images = list(self._files(_sorted_entries(folder), folder.name))
        if not images:
            if WNID.fullmatch(folder.name):
                raise _empty_class(folder.path)
            self.ignored["folders"] += 1
        yield from images

    def _files(self, entries: Iterable["os.DirEntry[str]"], folder: str) -> Iterator[Member]:
        for entry in entries:
            if self._is_image(entry.name, _kind_of_entry(entry)):
                yield Member("", folder, entry.name, None, entry.stat().st_size)

    def _tar(self, path: Path, archive: str) -> Iterator[Member]:
        size = path.stat().st_size
        with open(path, "rb") as file:
            for tar, member in self._entries(file, path.name):
                name = PurePosixPath(member.name)
                if is_nested_tar(name.name):
                    where = f"{path.name}: {name.name} at byte {member.offset_data:,}"
                    yield from _at_least_one(self._synset(tar, member, archive, where), where)
                else:
                    folder = PurePosixPath(archive).stem if archive else name.parent.name
                    yield Member(archive, folder, name.name, member.offset_data, member.size)
                if path == self.root:
                    self.done = member.offset_data / size

    def _synset(self, tar: tarfile.TarFile, nested: tarfile.TarInfo, archive: str, name: str) -> Iterator[Member]:
        """Read a nested tar where it lies."""
        folder = PurePosixPath(nested.name).stem
        for _, member in self._entries(cast("IO[bytes]", tar.extractfile(nested)), name):
            if is_nested_tar(member.name):
                raise ValueError(f"{name} holds another tar, {member.name}; expected nothing but images in a synset's tar")
            yield Member(archive, folder, PurePosixPath(member.name).name, nested.offset_data + member.offset_data, member.size)

    def _entries(self, file: IO[bytes], name: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        """The images and the tars in a tar; everything else is counted."""
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if self._is_wanted(member, name):
                        yield tar, member
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep fourteen million of them
                check_end(file, tar)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{name} is no whole, uncompressed tar ({error}); fetch it again") from error

    def _is_wanted(self, member: tarfile.TarInfo, archive: str) -> bool:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{archive} holds a member named {member.name!r}, which leaves the folder that it is unpacked in; "
                f"no official archive has one: fetch it again"
            )
        if member.issparse():
            raise ValueError(
                f"{archive} holds {member.name} with holes, which cannot be read in place; pack it without --sparse"
            )
        kind = _kind_of_member(member)
        return (kind is None and is_nested_tar(path.name)) or self._is_image(path.name, kind)

    def _is_image(self, name: str, other_kind: str | None) -> bool:
        """Count what is not an image."""
        if other_kind is None and not name.startswith("._") and name.lower().endswith(SUFFIXES):
            return True
        self.ignored[other_kind or ("resource forks" if name.startswith("._") else "other files")] += 1
        return False


def write_members(scan: Scan, path: Path) -> Iterator[int]:
    """Write the list of a scan's images, yielding how many there are so far.

    Raises:
        ValueError: what `Scan` raises, or a name that is not UTF-8.
    """
    images = iter(scan)
    num_images = 0
    with pq.ParquetWriter(path, MEMBERS, compression="zstd") as writer:
        while rows := list(islice(images, ROWS_AT_ONCE)):
            try:
                columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), MEMBERS, strict=True)]
            except UnicodeEncodeError as error:
                raise ValueError(f"{scan.root} holds a file name that is not UTF-8 ({error.object!r}); rename it") from error
            writer.write_table(pa.table(columns, schema=MEMBERS))
            num_images += len(rows)
            yield num_images


def read_members(root: Path, members: Path) -> pa.Table:
    """Return a list of members with the columns folder, name, path (of the file to open), offset and size."""
    table = pq.read_table(members, schema=MEMBERS).unify_dictionaries().combine_chunks()
    if table["offset"].null_count:
        inside = pc.binary_join_element_wise(str(root), table["folder"].cast(pa.string()), table["name"], "/")
        inside = pc.replace_substring(inside, "//", "/")
        archives = pc.binary_join_element_wise(str(root), table["archive"].cast(pa.string()), "/")
        paths = pc.if_else(pc.is_null(table["offset"]), inside, archives).combine_chunks()
        paths = pa.DictionaryArray.from_arrays(np.arange(len(paths), dtype=np.int32), paths)
    else:
        archives = table["archive"].combine_chunks()
        found = [str(root / archive) for archive in archives.dictionary.to_pylist()]
        paths = pa.DictionaryArray.from_arrays(archives.indices, pa.array(found, pa.string()))
    sizes = pc.if_else(pc.is_null(table["offset"]), None, table["size"])
    return pa.table({"folder": table["folder"], "name": table["name"], "path": paths, "offset": table["offset"], "size": sizes})


def find(root: Path, patterns: tuple[str, ...]) -> Path | None:
    """Return the first archive or folder below `root` that matches the first pattern that any does."""
    paths = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return next((path for path in paths if path.is_dir() or path.name.endswith(ARCHIVE_SUFFIXES)), None)


def need(root: Path, patterns: tuple[str, ...]) -> Path:
    """Return what `find` finds.

    Raises:
        FileNotFoundError: nothing.
    """
    found = find(root, patterns)
    if found is None:
        raise FileNotFoundError(f"no {patterns[0]} in {root}; expected {' or '.join(patterns)}")
    return found


def has_class_folders(root: Path) -> bool:
    """Whether `root` is a folder whose images are sorted by class."""
    return root.is_dir() and any(WNID.fullmatch(path.name.removesuffix(".tar")) for path in root.iterdir())


def check_classes(folders: pa.ChunkedArray, known: list[str], root: Path) -> None:
    """Make sure that images lie in the folders of these classes, of all of them and of no others.

    Raises:
        ValueError: they do not.
    """
    found = set(pc.unique(folders).to_pylist())
    if unknown := sorted(found - set(known)):
        raise ValueError(
            f"{root} holds images in {len(unknown):,} folders or tars that are none of its classes, such as "
            f"{unknown[0] or '.'!r}; expected one for each WNID of its list of classes"
        )
    if missing := sorted(set(known) - found):
        raise ValueError(
            f"{root} holds no image of {len(missing):,} of the {len(known):,} classes, such as {missing[0]}; "
            f"it is incomplete, fetch it again"
        )


def identity(root: Path) -> dict[str, Any]:
    """Return what tells an archive or a folder from another without reading its images: names, sizes, times of change."""
    if not root.is_dir():
        stat = root.stat()
        return {"source": root.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    digest = sha256()
    for entry in _sorted_entries(root):
        for file in _sorted_entries(entry) if _kind_of_entry(entry) == "folders" else [entry]:
            stat = file.stat(follow_symlinks=_kind_of_entry(file) != "links")
            digest.update(f"{entry.name}/{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return {"source": root.name, "files": digest.hexdigest()}


def is_nested_tar(name: str) -> bool:
    """Whether a member is itself a tar, of a synset's images."""
    return name.endswith(".tar") and not name.startswith("._")


def _sorted_entries(folder: "Path | os.DirEntry[str]") -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _kind_of_entry(entry: "os.DirEntry[str]") -> str | None:
    """What is at a path that is no file; None for a file, behind a link too: the user laid the folder out."""
    place = Path(entry) if entry.is_symlink() else entry  # an entry stumbles over a link to itself
    if place.is_file():
        return None
    return "folders" if place.is_dir() else "links" if entry.is_symlink() else "devices"


def _kind_of_member(member: tarfile.TarInfo) -> str | None:
    if member.isreg():
        return None
    return "folders" if member.isdir() else "links" if member.issym() or member.islnk() else "devices"


def _at_least_one(images: Iterator[Member], where: str) -> Iterator[Member]:
    first = next(images, None)
    if first is None:
        raise _empty_class(where)
    yield first
    yield from images


def _empty_class(where: str) -> ValueError:
    return ValueError(f"{where} holds no image; an official class has at least one: fetch it again, or remove it")
