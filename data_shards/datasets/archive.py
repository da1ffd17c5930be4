"""A folder or an archive as one tree of files; each is a region of a file on disk, which any process can read.

A tar is read in place. A compressed tar or a zip cannot be read at random, so it is copied once to a plain tar.
"""

import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from base.errors import ENVIRONMENT, InputError
from base.files import atomic_write
from base.progress import Progress, Silent
from data_shards.datasets.image_files import kind_of_file, not_utf8, printable, walk
from data_shards.datasets.unreadable import unreadable

Member = tuple[tarfile.TarInfo, IO[bytes] | None]
"""A member of an archive, and its bytes if it is a file."""

Region = tuple[str, int | None, int | None]
"""A file's path, the offset of its first byte and its size; None, None for the whole file."""

ZIP_METHODS = {0: "stored", 8: "Deflate", 12: "bzip2", 14: "LZMA"}
"""[PKWARE APPNOTE §4.4.5] The methods that Python reads."""
OTHER_ZIP_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "zstd", 95: "xz", 96: "JPEG", 98: "PPMd"}
ZIP_AES = 99
ZIP_ENCRYPTED = 0x1 | 0x40 | 0x2000
"""[PKWARE APPNOTE §4.4.4] Flags of a file, or of a list of files, that needs a password."""

_PROGRESS: ContextVar[Progress] = ContextVar("progress", default=Silent())  # noqa: B039  # it keeps nothing
"""Where copies are reported. Any property of a dataset may be the first to need its copy, so it is not an argument."""

MAX_LINKS = 40
"""(ours) Links to links that are followed, as Linux does."""


@dataclass(frozen=True)
class Tree:
    """The regular files below the folder that holds the marker file."""

    files: dict[str, Region]
    others: dict[str, str]
    """What is not a file, and its kind: links that lead to no file of the tree, devices."""
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
        InputError: `root` or its `marker` is missing, or `root` is neither a folder nor a whole archive that can be read.
    """
    if not root.exists():
        raise InputError(unreadable(root) or f"no {root}; give the path of a folder or an archive that holds {marker}")
    if root.is_dir():
        found = list(walk(root))
        files: dict[str, Region] = {name: (str(root / name), None, None) for name, kind in found if kind is None}
        others = {name: kind for name, kind in found if kind not in (None, "folders")}
        return _below_marker(Tree(files, others, {"source": str(root), "files": _digest_of_listing(root, files)}), marker, root)
    status = root.stat()
    identity = {"source": root.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return _below_marker(Tree(*_archive_regions(root, unpack_dir), identity), marker, root)


def check_end(file: IO[bytes], tar: tarfile.TarFile) -> None:
    """Check that a tar was not cut, after all its members have been read: a whole one ends with a block of zeros.

    Tarfile accepts a file that ends within a header, or that continues with something else than a header.

    Raises:
        tarfile.ReadError: the tar has no end mark.
    """
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end mark: it was cut short")


def with_slashes(name: str) -> str:
    """Return a member's name with slashes; a name without one that holds backslashes was written by a program of Windows."""
    return name if "/" in name else name.replace("\\", "/")


def target_of(link: tarfile.TarInfo) -> str:
    """Return the path in the archive that a link leads to; a symbolic link names it from its own folder."""
    folder = posixpath.dirname(with_slashes(link.name)) if link.issym() else ""
    return posixpath.normpath(posixpath.join(folder, with_slashes(link.linkname)))


def follow(name: str, targets: Mapping[str, str]) -> str:
    """Return where a link leads in the end, given the target of every link."""
    for _ in range(MAX_LINKS):
        if name not in targets:
            break
        name = targets[name]
    return name


def check_holes(member: tarfile.TarInfo, archive: str) -> None:
    """Refuse a file of which the tar does not hold all bytes.

    Raises:
        InputError: it is sparse.
    """
    if member.issparse():
        raise InputError(
            f"{archive} holds {printable(member.name)} with holes, which cannot be read in place; pack it without --sparse"
        )


def _below_marker(tree: Tree, marker: str, root: Path) -> Tree:
    found = sorted((name for name in tree.files if name.split("/")[-1] == marker and not _is_litter(name)), key=len)
    if not found:
        raise InputError(f"{root} holds {len(tree.files):,} files but no {marker}; expected the dataset's public layout")
    prefix = found[0][: -len(marker)]
    files = {name[len(prefix) :]: region for name, region in tree.files.items() if name.startswith(prefix)}
    others = {name[len(prefix) :]: kind for name, kind in tree.others.items() if name.startswith(prefix)}
    return Tree(files, others, tree.identity)


def _is_litter(name: str) -> bool:
    return kind_of_file(name) == "system files"


def _digest_of_listing(root: Path, files: dict[str, Region]) -> str:
    stats = ((name, (root / name).stat()) for name in files)
    lines = "".join(f"{name} {status.st_size} {status.st_mtime_ns}\n" for name, status in stats)
    return sha256(lines.encode(errors="surrogateescape")).hexdigest()


def plain_tar(archive: Path, unpack_dir: Path) -> Path:
    """Return an archive that is a folder or a plain tar, or the plain copy in `unpack_dir` of a compressed one.

    Raises:
        InputError: a compressed archive that is damaged, or that is not read here.
    """
    if archive.is_dir() or archive.suffix == ".tar":
        return archive
    with readable(archive):
        return archive if _is_plain_tar(archive) else _plain_copy(archive, unpack_dir)


def _archive_regions(archive: Path, unpack_dir: Path) -> tuple[dict[str, Region], dict[str, str]]:
    """Return where each file is: in the archive itself if it is a plain tar, else in its plain copy; and what is not a file."""
    with readable(archive):
        return _tar_regions(archive if _is_plain_tar(archive) else _plain_copy(archive, unpack_dir))


@contextmanager
def readable(archive: Path) -> Iterator[None]:
    """Turn what Python's readers raise into an error that names the archive."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise not_utf8(archive, error.object.decode(errors="surrogateescape")) from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in ENVIRONMENT:
            raise  # the system's, such as a full disk; a wrong offset is an error of the archive
        if sentence := unreadable(archive):
            raise InputError(sentence) from error
        reason = str(error).partition(":\n")[0]  # tarfile adds a line for each kind of compression
        raise InputError(f"{archive} is neither a folder nor a whole tar, tar.gz or zip ({reason}); fetch it again") from error


DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, struct.error),
    *(EOFError, RuntimeError, OSError, ValueError),
)
"""What Python's readers raise for a damaged archive."""


def _tar_regions(path: Path) -> tuple[dict[str, Region], dict[str, str]]:
    files: dict[str, Region] = {}
    others: dict[str, str] = {}
    links: dict[str, str] = {}
    with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            name = posixpath.normpath(with_slashes(member.name))
            if member.isreg():
                check_holes(member, path.name)
                files[name] = (str(path), member.offset_data, member.size)
            elif member.islnk() or member.issym():
                links[name] = target_of(member)
            elif not member.isdir():
                others[name] = "devices"
        check_end(file, tar)
    for name in links:
        target = files.get(follow(name, links))
        if target is None:
            others[name] = "links"
        else:
            files[name] = target
    return files, others


def _is_plain_tar(archive: Path) -> bool:
    try:
        tarfile.open(archive, "r:").close()
    except tarfile.ReadError:
        return False
    return True


def zip_members(archive: Path) -> Iterator[Member]:
    """Yield the files and links of a zip."""
    with zipfile.ZipFile(archive) as zipped:
        _check_zip(zipped.infolist(), archive)
        for info in zipped.infolist():
            if info.is_dir() or with_slashes(info.filename).endswith("/"):
                continue
            member = tarfile.TarInfo(_zip_name(info))
            if stat.S_ISLNK(info.external_attr >> 16):
                member.type, member.linkname = tarfile.SYMTYPE, zipped.read(info).decode(errors="surrogateescape")
                yield member, None
                continue
            member.size = info.file_size
            with zipped.open(info) as content:
                yield member, content


def _check_zip(infos: list[zipfile.ZipInfo], archive: Path) -> None:
    """Refuse a zip that cannot be read, before anything is written."""
    infos = [info for info in infos if not info.is_dir()]
    locked = [info for info in infos if info.flag_bits & ZIP_ENCRYPTED or info.compress_type == ZIP_AES]
    if locked:
        raise InputError(
            f"{archive} is encrypted: {printable(locked[0].filename)} needs a password; unpack it and give the folder"
        )
    other = [info for info in infos if info.compress_type not in ZIP_METHODS]
    if other:
        number = other[0].compress_type
        method = OTHER_ZIP_METHODS.get(number, f"the unknown method {number}")
        raise InputError(
            f"{archive} holds {len(other):,} files compressed with {method}, such as {printable(other[0].filename)}, "
            f"which is not read here; unpack it, with 7-Zip for example, and give the folder"
        )


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a file's name; macOS writes UTF-8 without saying so, which is then read as the code page of DOS."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        try:
            name = name.encode("cp437").decode()
        except UnicodeError:
            return name
    return name


def tar_members(archive: Path | IO[bytes]) -> Iterator[Member]:
    """Yield the files and links of a tar, compressed or not."""
    source: Any = {"name": archive} if isinstance(archive, Path) else {"fileobj": archive}
    with tarfile.open(**source, mode="r:*") as tar:  # not "r|*", which takes the end of a cut file for the end of the archive
        for found in tar:
            member = tarfile.TarInfo(found.name)
            if found.isreg():
                member.size = found.size
                yield member, tar.extractfile(found)
            elif not found.isdir():
                member.type, member.linkname = found.type, found.linkname
                yield member, None
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
        while tar.fileobj.read(1 << 20):  # to the checksum at the end
            pass


def _plain_copy(archive: Path, unpack_dir: Path) -> Path:
    if sentence := unreadable(archive):
        raise InputError(sentence)
    status = archive.stat()
    members = zip_members(archive) if zipfile.is_zipfile(archive) else tar_members(archive)
    mark = f"{archive.name} {status.st_size} {status.st_mtime_ns}"
    return copy_once(archive.name.split(".")[0], mark, unpack_dir, members, status.st_size)


@contextmanager
def copies_reported(progress: Progress) -> Iterator[None]:
    """Report within the block how far the copy of an archive is."""
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


def copy_once(name: str, mark: str, unpack_dir: Path, members: Iterable[Member], num_bytes: int) -> Path:
    """Return the plain tar in `unpack_dir` that holds the members; write it if it is not there, from its beginning.

    Its name has a digest of `mark`, which tells the archives that the members come from; `num_bytes` is their size.
    """
    target = unpack_dir / f"{name}-{sha256(mark.encode(errors='surrogateescape')).hexdigest()[:12]}.tar"
    if target.exists():
        return target
    unpack_dir.mkdir(parents=True, exist_ok=True)
    progress, number, done = _PROGRESS.get(), 0, 0
    with atomic_write(target) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, (member, content) in enumerate(members, start=1):
            tar.addfile(member, content)
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
            done += member.size
            progress.report(min(done, num_bytes - 1), num_bytes, "bytes", f"{number:,} files to {target.name}")
    progress.report(num_bytes, num_bytes, "bytes", f"{number:,} files to {target.name}")
    return target
