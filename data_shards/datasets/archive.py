"""A folder or an archive as one tree of files, each a region of a file on disk that any process can read.

A tar is read in place. A compressed tar or a zip is rewritten once as a plain tar, since neither can be read at random.
"""

import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

Region = tuple[str, int | None, int | None]
"""A file's path, and where in it the bytes lie; None, None for the whole file."""


@dataclass(frozen=True)
class Tree:
    """The regular files below the folder that holds the marker file."""

    files: dict[str, Region]
    identity: dict[str, Any]

    def read(self, name: str) -> bytes:
        """Return one file's bytes.

        Raises:
            FileNotFoundError: the tree has no such file.
        """
        if name not in self.files:
            raise FileNotFoundError(
                f"{name} is missing from {self.identity['source']}; the copy is incomplete or another dataset"
            )
        path, offset, size = self.files[name]
        with open(path, "rb") as file:
            file.seek(offset or 0)
            return file.read() if size is None else file.read(size)


def open_tree(root: Path, unpack_dir: Path, marker: str) -> Tree:
    """Return the files below wherever `marker` lies in the folder or archive `root`.

    Raises:
        FileNotFoundError: `root` is not there, or holds no `marker`.
        ValueError: neither a folder nor an archive, or a damaged one.
    """
    if not root.exists():
        raise FileNotFoundError(f"no {root}; give the path of a folder or an archive that holds {marker}")
    if root.is_dir():
        files = {str(path.relative_to(root)): (str(path), None, None) for path in sorted(root.rglob("*")) if path.is_file()}
        return _below_marker(files, {"source": str(root), "files": _digest_of_listing(root, files)}, marker, root)
    stat = root.stat()
    identity = {"source": root.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    tar = _plain_tar(root, unpack_dir)
    return _below_marker(dict(_tar_regions(tar)), identity, marker, root)


def _below_marker(files: dict[str, Any], identity: dict[str, Any], marker: str, root: Path) -> Tree:
    found = sorted((name for name in files if name.split("/")[-1] == marker), key=len)
    if not found:
        raise FileNotFoundError(f"{root} holds {len(files):,} files but no {marker}; expected the dataset's public layout")
    prefix = found[0][: -len(marker)]
    return Tree({name[len(prefix) :]: files[name] for name in files if name.startswith(prefix)}, identity)


def _digest_of_listing(root: Path, files: dict[str, Any]) -> str:
    stats = ((name, (root / name).stat()) for name in files)
    return sha256("".join(f"{name} {stat.st_size} {stat.st_mtime_ns}\n" for name, stat in stats).encode()).hexdigest()


def _tar_regions(path: Path) -> Iterator[tuple[str, Region]]:
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.isreg():
                yield member.name.removeprefix("./"), (str(path), member.offset_data, member.size)


def _plain_tar(archive: Path, unpack_dir: Path) -> Path:
    """The archive itself where it is a plain tar, else its plain copy, made now if it is not there."""
    try:
        if zipfile.is_zipfile(archive):
            return _copy_once(archive, unpack_dir, _zip_members(archive))
        if _is_plain_tar(archive):
            with open(archive, "rb") as file, tarfile.open(fileobj=file, mode="r:") as opened:
                for _ in opened:
                    pass
                check_end(file, opened)
            return archive
        return _copy_once(archive, unpack_dir, _tar_members(archive))
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as error:
        reason = str(error).partition(":\n")[0]  # tarfile goes on with a line for each kind of compression
        raise ValueError(f"{archive} is neither a folder nor a whole tar, tar.gz or zip ({reason}); fetch it again") from error


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


def check_end(file: IO[bytes], tar: tarfile.TarFile) -> None:
    """Make sure that a tar whose members have all been read was not cut: a whole one ends with a block of zeros.

    Tarfile takes a file that ends within a header, or goes on with anything but a header, for a whole one.

    Raises:
        tarfile.ReadError: it has no end mark.
    """
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end mark: it was cut short")


def _copy_once(archive: Path, unpack_dir: Path, members: Iterator[tuple[str, int, IO[bytes]]]) -> Path:
    stat = archive.stat()
    mark = sha256(f"{archive.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = unpack_dir / f"{archive.name.split('.')[0]}-{mark}.tar"
    if target.exists():
        return target
    unpack_dir.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    with open(partial, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, size, content in members:
                member = tarfile.TarInfo(name)
                member.size = size
                tar.addfile(member, content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(target)
    return target
