"""What stands in place of a file that could be read: a link to nothing, a folder, a compression of another kind."""

import tarfile
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

READABLE_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
OTHER_COMPRESSIONS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
    b"\x04\x22\x4d\x18": "LZ4",
    b"LZIP": "lzip",
    b"\x1f\x9d": "compress",
}
"""By the first bytes of a file."""


def broken_link(path: Path) -> str | None:
    """Return a sentence about a link that leads to nothing; None for anything else."""
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to {path.readlink()}, which is not there; restore that file or replace the link"
    return None


def unreadable(path: Path) -> str | None:
    """Return why nothing can be read from a path, whole or not: a link to nothing, a folder, a compression of another kind."""
    if path.is_dir():
        return f"{path} is a folder; expected a file"
    if not path.is_file():
        return broken_link(path)
    with open(path, "rb") as file:
        compression = compression_of(file)
    if compression in OTHER_COMPRESSIONS.values():
        return f"{path} is compressed with {compression}, which is not read here; unpack it and give the folder, or the tar"
    return None


def unreadable_in(folder: Path, patterns: Iterable[str]) -> str | None:
    """Return why a file in a folder cannot be read whose name begins as one of the patterns; None if there is no such file."""
    begins = [f"{pattern.split('.')[0]}*" for pattern in patterns]
    paths = (path for begin in begins for path in sorted(folder.glob("*")) if fnmatch(path.name, begin) and not path.is_dir())
    return next((sentence for path in paths if (sentence := unreadable(path))), None)


def compression_of(file: IO[bytes]) -> str | None:
    """Return how a file that is not a tar is compressed, by its first bytes; None if it is not, or unknown."""
    try:
        file.seek(0)
        begin = file.read(8)
    except tarfile.ReadError:  # a tar within a tar that was cut
        return None
    names = (READABLE_COMPRESSIONS | OTHER_COMPRESSIONS).items()
    return next((name for magic, name in names if begin.startswith(magic)), None)
