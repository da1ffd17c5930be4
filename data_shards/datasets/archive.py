"""A folder or an archive as one tree of files; each is a region of a file on disk, which any process can read.

A tar is read in place. A compressed tar or a zip cannot be read at random, so it is copied once to a plain tar.
"""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from base.errors import InputError
from base.files import atomic_write

Region = tuple[str, int | None, int | None]
"""A file's path, the offset of its first byte and its size; None, None for the whole file."""


@dataclass(frozen=True)
class Tree:
    """The regular files below the folder that holds the marker file."""

    files: dict[str, Region]
    identity: dict[str, Any]

    def read(self, name: str) -> bytes:
        """Return one file's bytes.

        Raises:
            InputError: the tree has no such file.
        """
        if name not in self.files:
            raise InputError(f"{name} is missing from {self.identity['source']}; the copy is incomplete or another dataset")
        path, offset, size = self.files[name]
        with open(path, "rb") as file:
            file.seek(offset or 0)
            return file.read(-1 if size is None else size)


def open_tree(root: Path, unpack_dir: Path, marker: str) -> Tree:
    """Return the files beside and below `marker`, which may be anywhere in the folder or archive `root`.

    Raises:
        InputError: `root` or its `marker` is missing, or `root` is neither a folder nor a whole archive.
    """
    if not root.exists():
        raise InputError(f"no {root}; give the path of a folder or an archive that holds {marker}")
    if root.is_dir():
        files: dict[str, Region] = {
            str(path.relative_to(root)): (str(path), None, None) for path in sorted(root.rglob("*")) if path.is_file()
        }
        return _below_marker(files, {"source": str(root), "files": _digest_of_listing(root, files)}, marker, root)
    stat = root.stat()
    identity = {"source": root.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return _below_marker(_archive_regions(root, unpack_dir), identity, marker, root)


def check_end(file: IO[bytes], tar: tarfile.TarFile) -> None:
    """Check that a tar was not cut, after all its members have been read: a whole one ends with a block of zeros.

    Tarfile accepts a file that ends within a header, or that continues with something else than a header.

    Raises:
        tarfile.ReadError: the tar has no end mark.
    """
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end mark: it was cut short")


def _below_marker(files: dict[str, Region], identity: dict[str, Any], marker: str, root: Path) -> Tree:
    found = sorted((name for name in files if name.split("/")[-1] == marker), key=len)
    if not found:
        raise InputError(f"{root} holds {len(files):,} files but no {marker}; expected the dataset's public layout")
    prefix = found[0][: -len(marker)]
    return Tree({name[len(prefix) :]: files[name] for name in files if name.startswith(prefix)}, identity)


def _digest_of_listing(root: Path, files: dict[str, Region]) -> str:
    stats = ((name, (root / name).stat()) for name in files)
    return sha256("".join(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" for name, stat in stats).encode()).hexdigest()


def _archive_regions(archive: Path, unpack_dir: Path) -> dict[str, Region]:
    """Return where each file is: in the archive itself if it is a plain tar, else in its plain copy."""
    try:
        if zipfile.is_zipfile(archive):
            return _tar_regions(_copy_once(archive, unpack_dir, _zip_members(archive)))
        if _is_plain_tar(archive):
            return _tar_regions(archive)
        return _tar_regions(_copy_once(archive, unpack_dir, _tar_members(archive)))
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's, such as a full disk; those of gzip and bz2 have no number
        reason = str(error).partition(":\n")[0]  # tarfile adds a line for each kind of compression
        raise InputError(f"{archive} is neither a folder nor a whole tar, tar.gz or zip ({reason}); fetch it again") from error


def _tar_regions(path: Path) -> dict[str, Region]:
    with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        regions: dict[str, Region] = {
            member.name.removeprefix("./"): (str(path), member.offset_data, member.size) for member in tar if member.isreg()
        }
        check_end(file, tar)
    return regions


def _is_plain_tar(archive: Path) -> bool:
    try:
        tarfile.open(archive, "r:").close()
    except tarfile.ReadError:
        return False
    return True


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            if not info.is_dir():
                with zipped.open(info) as content:
                    yield info.filename, info.file_size, content


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive, "r:*") as tar:  # not "r|*", which takes the end of a cut file for the end of the archive
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is not None:
                yield member.name, member.size, content
        while tar.fileobj.read(1 << 20):  # to the checksum at the end
            pass


def _copy_once(archive: Path, unpack_dir: Path, members: Iterator[tuple[str, int, IO[bytes]]]) -> Path:
    stat = archive.stat()
    mark = sha256(f"{archive.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = unpack_dir / f"{archive.name.split('.')[0]}-{mark}.tar"
    if target.exists():
        return target
    unpack_dir.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, size, content in members:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, content)
    return target
