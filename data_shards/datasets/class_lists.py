"""Lists of classes and of their words: text files as people and their editors write them."""

import codecs
import unicodedata
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from base.errors import InputError
from data_shards.datasets.finding import WNID
from data_shards.datasets.unreadable import broken_link


def text_lines(data: bytes) -> list[str]:
    """Return the lines of a text: UTF-8, or UTF-16 after its byte-order mark; a line that is not UTF-8 is read as Latin-1."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", "replace").encode()
    return [_decoded(line) for line in data.removeprefix(codecs.BOM_UTF8).splitlines()]


def class_names(data: bytes) -> list[str]:
    """Return the distinct names of a list with one a line, in order; blank lines are skipped."""
    return sorted({line.strip() for line in text_lines(data)} - {""})


def words_of(data: bytes) -> dict[str, str]:
    """Return the words of each class from lines such as `n01443537<tab>goldfish`."""
    return dict(line.split("\t", 1) for line in text_lines(data) if "\t" in line)


def existing_list(path: Path | None) -> Path | None:
    """Return the path of a list of classes, absolute; None if there is none.

    Raises:
        InputError: nothing is there.
    """
    path = path and path.expanduser().absolute()
    if path and not path.is_file():
        what = f"{path} is a folder" if path.is_dir() else f"no {path}"
        raise InputError(broken_link(path) or f"{what}; give the path of a text file with one WNID a line")
    return path


def read_wnids(path: Path) -> list[str]:
    """Return the WNIDs of a list, in order.

    Raises:
        InputError: fewer than two, or an entry that is not a WNID.
    """
    wnids = sorted({wnid for line in text_lines(path.read_bytes()) for wnid in line.split()})
    wrong = [wnid for wnid in wnids if not WNID.fullmatch(wnid)]
    if wrong or len(wnids) < 2:
        found = repr(wrong[0]) if wrong else f"{len(wnids)} WNIDs"
        raise InputError(f"{path} holds {found}; expected two or more WNIDs such as n01440764, one a line")
    return wnids


def read_class_list(path: Path) -> list[str]:
    """Return the classes of a list, in order.

    Raises:
        InputError: fewer than two.
    """
    names = class_names(path.read_bytes())
    if len(names) < 2:
        raise InputError(f"{path} holds {len(names)} names of classes; expected two or more, one a line")
    return names


def choose(path: Path, known: Sequence[str], root: Path) -> list[str]:
    """Return the known classes that a list names, in order and as they are known.

    Raises:
        InputError: it names a class that is not known.
    """
    spelled = {nfc(name): name for name in known}
    names = read_class_list(path)
    if missing := [name for name in names if nfc(name) not in spelled]:
        raise InputError(
            f"{path} names {len(missing):,} of its {len(names):,} classes that {root} does not hold, such as {missing[0]!r}; "
            f"take them off the list, or add their images"
        )
    return sorted({spelled[nfc(name)] for name in names})


def unlisted(name: str) -> str:
    """Return what images are called if the list of this name does not name their class."""
    return f"images of classes that {name} does not list"


def suffix_of(wnids: Sequence[str]) -> str:
    """Return what tells datasets of different lists of classes apart in their names: `-20-1f8a02`."""
    digest = sha256("\n".join(wnids).encode(errors="surrogateescape")).hexdigest()
    return f"-{len(wnids)}-{digest[:6]}"


def nfc(name: str) -> str:
    """Return a name in the composed form of Unicode: macOS decomposes letters with accents."""
    return unicodedata.normalize("NFC", name)


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")
