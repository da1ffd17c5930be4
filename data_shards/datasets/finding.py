"""Finds official archives and folders by their names, and identifies them without reading their images.

Called by the datasets that are read from official archives, by the scan of an archive, and by whoever needs an archive's
identity for a cache key.
"""

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from base.errors import InputError
from data_shards.datasets.image_files import kind_of_entry, sorted_entries, walk
from data_shards.datasets.unreadable import broken_link, unreadable_in

WNID = re.compile(r"n\d{8}")
"""[devkit-1.0 readme] The name of a synset and, with a suffix, of its tar."""

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")


def find(root: Path, patterns: tuple[str, ...]) -> Path | None:
    """Return the first archive or folder below `root` that matches the first pattern with a match."""
    paths = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return next((path for path in paths if path.is_dir() or (path.is_file() and path.name.endswith(ARCHIVE_SUFFIXES))), None)


def need(root: Path, patterns: tuple[str, ...]) -> Path:
    """Return what `find` finds.

    Raises:
        InputError: nothing that can be read matches.
    """
    found = find(root, patterns)
    if found is None:
        missing = f"no {patterns[0]} in {root}; expected {' or '.join(patterns)}"
        raise InputError(unreadable_in(root, patterns) or missing)
    return found


def has_class_folders(root: Path) -> bool:
    """Return whether `root` is a folder whose images are sorted by class."""
    return root.is_dir() and any(WNID.fullmatch(path.name.removesuffix(".tar")) for path in root.iterdir())


def identity(root: Path) -> dict[str, Any]:
    """Return names, sizes and modification times, which tell an archive or a folder from another.

    Raises:
        InputError: a link that leads to nothing.
    """
    if sentence := broken_link(root):
        raise InputError(sentence)
    if not root.is_dir():
        stat = root.stat()
        return {"source": root.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    digest = sha256()
    for entry in sorted_entries(root):
        for file in sorted_entries(entry) if kind_of_entry(entry) == "folders" else [entry]:
            stat = file.stat(follow_symlinks=kind_of_entry(file) != "links")
            digest.update(_line(f"{entry.name}/{file.name}", stat))
            if kind_of_entry(file) == "folders":
                inside = Path(file.path)
                names = [name for name, kind in walk(inside) if kind is None]
                digest.update(b"".join(_line(f"{entry.name}/{file.name}/{name}", (inside / name).stat()) for name in names))
    return {"source": root.name, "files": digest.hexdigest()}


def _line(name: str, status: os.stat_result) -> bytes:
    return f"{name} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape")
