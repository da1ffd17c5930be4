"""The one rule for which files of a source are images; everything else is counted by kind, with an example.

Used by every dataset that is read from folders or archives, so the same file is treated alike in a folder, a tar and a zip. A
file is judged by its path alone.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from base.errors import InputError

IMAGE_SUFFIXES = (
    *(".jpeg", ".jpg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avif"),
)
"""Of the formats that `data_shards.decoding` reads, in lower or upper case."""

UNREADABLE_SUFFIXES = (
    *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".svg", ".psd", ".eps", ".ico", ".tga", ".pcx", ".xcf", ".exr", ".hdr"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"),
)
"""Of images that `data_shards.decoding` does not read."""

SYSTEM_FOLDERS = ("__MACOSX", "@eaDir")
"""Made by macOS for a zip, and by Synology's disks for thumbnails."""

SYSTEM_FILES = (".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini")
"""Made by macOS and Windows, in lower case."""

MAX_KINDS = 24
"""(ours) After this many suffixes, further ones are counted together."""


class PassedOver(Counter[str]):
    """The number of files of each kind that are not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, str] = {}
        """The first file of each kind."""
        self._folders: dict[str, None] = {}
        self._with_files: set[str] = set()
        self._with_images: set[str] = set()

    def is_image(self, path: str, kind: str | None = None) -> bool:
        """Return whether a file is an image; count it if not. `kind` is what it is if it is not a file: `links`, `folders`."""
        if kind == "folders":
            self._folders[path] = None
            return False
        kind = kind or kind_of_file(path)
        _add_folders_of(path, self._with_images if kind is None else self._with_files)
        if kind is not None:
            self.add(kind, path)
        return kind is None

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count files of a kind."""
        if kind not in self and kind.endswith(" files") and len(self) >= MAX_KINDS:
            kind = "other files"
        self[kind] += count
        self.examples.setdefault(kind, printable(example))

    def add_all(self, other: "PassedOver") -> None:
        """Count what another one has counted."""
        for kind, count in other.items():
            self.add(kind, other.examples[kind], count)

    def add_empty_folders(self) -> list[str]:
        """Count the folders in which nothing was found; return all those without an image."""
        without = [path for path in self._folders if path not in self._with_images and kind_of_file(f"{path}/x.jpg") is None]
        for path in without:
            if path not in self._with_files:
                self.add("empty folders", path)
        self._folders.clear()
        return without

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {kind} (such as {self.examples[kind]})" for kind, count in sorted(self.items()))

    def to_json(self) -> str:
        """Return the counts and the examples as text."""
        return json.dumps({kind: [count, self.examples[kind]] for kind, count in self.items()})

    @classmethod
    def from_json(cls, text: str | bytes) -> "PassedOver":
        """Return what `to_json` wrote."""
        passed = cls()
        for kind, (count, example) in json.loads(text).items():
            passed.add(kind, example, count)
        return passed


def kind_of_file(path: str) -> str | None:
    """Return None for an image, else the kind of file that it is: `system files`, `.txt files`."""
    *folders, name = path.split("/")
    if name.startswith("._") or name.lower() in SYSTEM_FILES or any(folder in SYSTEM_FOLDERS for folder in folders):
        return "system files"
    if any(folder.startswith(".") and folder not in (".", "..") for folder in folders):
        return "hidden files"
    lower = name.lower()
    if lower.endswith(IMAGE_SUFFIXES):
        return None
    if name.startswith("."):
        return "hidden files"
    stem, dot, suffix = lower.rpartition(".")
    if dot + suffix in UNREADABLE_SUFFIXES:
        return f".{suffix} images that cannot be read"
    return f".{suffix} files" if stem and suffix.isprintable() and 0 < len(suffix) <= 12 else "files without a suffix"


def walk(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[tuple[str, str | None]]:
    """Yield the path of everything below a folder, in order, and what it is: None for a file, `folders`, `links`, `devices`.

    Links are followed; a broken one, and one to a folder that it is in, is `links`.
    """
    status = folder.stat()
    above |= {(status.st_dev, status.st_ino)}
    for entry in sorted_entries(folder):
        kind = kind_of_entry(entry)
        if kind == "folders" and entry.is_symlink():
            target = entry.stat()
            kind = "links" if (target.st_dev, target.st_ino) in above else kind
        yield entry.name, kind
        if kind == "folders":
            for name, inner in walk(Path(entry.path), above):
                yield f"{entry.name}/{name}", inner


def sorted_entries(folder: "Path | os.DirEntry[str]") -> list["os.DirEntry[str]"]:
    """Return a folder's entries by name."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def kind_of_entry(entry: "os.DirEntry[str]") -> str | None:
    """Return None for a file, also one behind a link, since the user made the folder; else the kind of thing that it is."""
    place = Path(entry) if entry.is_symlink() else entry  # an entry raises an error for a link to itself
    if place.is_file():
        return None
    return "folders" if place.is_dir() else "links" if entry.is_symlink() else "devices"


def _add_folders_of(path: str, known: set[str]) -> None:
    folder = path.rpartition("/")[0]
    while folder and folder not in known:
        known.add(folder)
        folder = folder.rpartition("/")[0]


def printable(path: str) -> str:
    """Return a path that any terminal can show."""
    return path if path.isprintable() else repr(path)[1:-1]


def not_utf8(source: Path, name: str) -> InputError:
    """Return the error for a name that cannot be stored, in the folder or archive `source`."""
    advice = "rename it" if source.is_dir() else "unpack the archive, rename the file and give the folder"
    return InputError(f"{printable(str(source))} holds a file name that is not UTF-8 ({name!r}); {advice}")
