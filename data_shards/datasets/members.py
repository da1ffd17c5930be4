"""The list of an archive's images: a Parquet file that `data_shards.datasets.scanning` writes and the datasets read."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from base.errors import InputError
from data_shards.datasets.image_files import PassedOver

PASSED_OVER = "passed_over"
"""The entry of the list's metadata that counts what is not an image."""

ROWS_AT_ONCE = 65_536
"""Rows in a row group of the list."""

MEMBERS = pa.schema(
    [
        pa.field("archive", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("folder", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64(), nullable=False),
    ]
)
"""The columns of the list; a row is a `ListedImage`."""


class ListedImage(NamedTuple):
    """One image and the place of its bytes."""

    archive: str
    """The file that holds it, relative to the scanned root; empty if that is the root, or if the image is a file."""
    folder: str
    """The synset's tar or the folder that holds it, a WNID if images are sorted by class; empty for none."""
    name: str
    offset: int | None
    """Of the image's first byte in the archive; None if the image is a file."""
    size: int


def read_members(root: Path, members: Path) -> pa.Table:
    """Return a list with the columns folder, name, path (of the file to open), offset and size."""
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


def read_passed_over(lists: Iterable[Path]) -> PassedOver:
    """Return what was passed over in the archives of some lists."""
    passed = PassedOver()
    for path in lists:
        found = (pq.read_metadata(path).metadata or {}).get(PASSED_OVER.encode())
        passed.add_all(PassedOver.from_json(found or "{}"))
    return passed


def check_classes(folders: pa.ChunkedArray, known: list[str], root: Path, advice: str = "fetch it again") -> None:
    """Check that the images' folders are exactly the known classes; `root` is the source's name in errors.

    Raises:
        InputError: a folder that is not a class, or a class without an image.
    """
    found = set(pc.unique(folders).to_pylist())
    if unknown := sorted(found - set(known)):
        raise InputError(
            f"{root} holds images in {len(unknown):,} folders or tars that are none of its classes, such as "
            f"{unknown[0] or '.'!r}; expected one for each WNID of its list of classes"
        )
    if missing := sorted(set(known) - found):
        raise InputError(
            f"{root} holds no image of {len(missing):,} of the {len(known):,} classes, such as {missing[0]}; "
            f"it is incomplete, {advice}"
        )
