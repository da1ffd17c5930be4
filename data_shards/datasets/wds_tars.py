"""WebDataset tars: the files of one sample follow each other and differ in what follows the first dot of their name.

Called by the datasets that are read from such tars.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from base.errors import InputError
from data_shards.datasets.archive import check_end, readable
from data_shards.datasets.image_files import kind_of_file

Fields = dict[str, bytes]
"""For each suffix, in lower case and without its dot, the file's bytes."""


def read_wds(files: list[Path]) -> Iterator[tuple[str, Fields]]:
    """Yield the key and the files of each sample, one sample at a time.

    Raises:
        InputError: a file that is not a whole tar.
    """
    for path in files:
        key, fields = "", Fields()
        with readable(path), open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, slash, base = member.name.removeprefix("./").rpartition("/")
                stem, _, suffix = base.partition(".")
                if member.isreg() and stem and not base.startswith("_"):
                    if fields and key != folder + slash + stem:
                        yield key, fields
                        fields = Fields()
                    key = folder + slash + stem
                    content = tar.extractfile(member)
                    fields[suffix.lower()] = content.read() if content else b""
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
            check_end(file, tar)
        if fields:
            yield key, fields


def image_suffix(fields: Fields) -> str | None:
    """Return which of a sample's files is its image; None if it has none."""
    return next((suffix for suffix in fields if kind_of_file(f"x.{suffix}") is None), None)


def class_number(key: str, fields: Fields) -> int:
    """Return the number in a sample's `.cls`.

    Raises:
        InputError: it is not a number.
    """
    try:
        return int(fields["cls"])
    except ValueError as error:
        raise InputError(f"the sample {key} has the class {fields['cls'][:40]!r}; expected a number in its .cls") from error


def about_sample(key: str, fields: Fields) -> dict[str, Any]:
    """Return a sample's JSON; empty if it has none.

    Raises:
        InputError: it is not a JSON object.
    """
    text = fields.get("json", b"{}")
    try:
        about = json.loads(text)
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise InputError(f"the sample {key} has the JSON {text[:40]!r}; expected an object")
    return about
