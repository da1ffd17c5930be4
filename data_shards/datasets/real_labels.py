"""ReaL: other labels for the validation images of ILSVRC-2012, several or none for an image. [Beyer 2020]

`real.json` is a list with an entry for each image, a list of numbers among the sorted WNIDs. Entry i is that of
`ILSVRC2012_val_{i + 1:08d}.JPEG`, whatever the order of the images. Called by `tasks.tabulate`.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from base.errors import InputError

OFFICIAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")


def read_real_labels(path: Path, names: Sequence[str], wnids: Sequence[str]) -> list[list[str]]:
    """Return the WNIDs of the right classes of each image, given the images' file names; none for an image without a label.

    `wnids` are those that the numbers count, sorted.

    Raises:
        InputError: the file is another one, a label is not a class, an image is not a validation image, or two have one number.
    """
    entries = _entries(path)
    numbers = [_number(name, path) for name in names]
    number, count = Counter(numbers).most_common(1)[0] if numbers else (0, 0)
    if count > 1:
        raise InputError(f"{count} images have the number {number:,}; {path} has an entry for one: shard the official images")
    if numbers and max(numbers) > len(entries):
        raise InputError(
            f"{path} has {len(entries):,} entries, but an image has the number {max(numbers):,}; "
            f"expected an entry for each image"
        )
    highest = max((label for number in numbers for label in entries[number - 1]), default=0)
    if highest >= len(wnids):
        raise InputError(
            f"{path} has the label {highest}, but the networks have {len(wnids):,} classes; a label is the place of a class "
            f"among the sorted 1,000 WNIDs of ILSVRC-2012"
        )
    return [[wnids[label] for label in sorted(set(entries[number - 1]))] for number in numbers]


def _entries(path: Path) -> list[list[int]]:
    if not path.is_file():
        raise InputError(f"no file {path}; expected real.json with a list of labels for each validation image")
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); expected real.json, a list of lists of labels") from error
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        wrong = entries if not isinstance(entries, list) else next(entry for entry in entries if not _is_entry(entry))
        raise InputError(f"{path} holds {str(wrong)[:40]!r}; expected a list with a list of labels from 0 up for each image")
    return entries


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and all(type(label) is int and label >= 0 for label in entry)


def _number(name: str, path: Path) -> int:
    found = OFFICIAL_NAME.search(name)
    if found is None or int(found[1]) == 0:
        raise InputError(
            f"an image is called {name}; {path} labels the validation images of ILSVRC-2012 by their names, such as "
            f"ILSVRC2012_val_00000001.JPEG: expected these"
        )
    return int(found[1])
