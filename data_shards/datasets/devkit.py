"""The development kit of an ILSVRC competition: its synsets in `meta.mat`, and truth files that name them by ILSVRC ID.

ILSVRC IDs count from 1, the leaves first, and do not follow the order of WNIDs. The leaves are the classes to predict.
Called by the datasets that are read from official archives, and by the code that writes and scores submissions.
"""

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from base.errors import InputError

FIELDS = ("WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")
"""[devkit-1.0 readme] The fields of the struct array `synsets`, besides `ILSVRC2010_ID` or `ILSVRC2012_ID`."""


class Synset(NamedTuple):
    """One synset of the competition's hierarchy."""

    ilsvrc_id: int
    wnid: str
    words: str
    gloss: str
    num_children: int
    children: tuple[int, ...]
    """ILSVRC IDs."""
    wordnet_height: int
    num_train_images: int


@dataclass(frozen=True)
class Devkit:
    """The competition's synsets in the order of their ILSVRC IDs, the leaves first."""

    synsets: list[Synset]
    cost_matrix: NDArray[np.uint8] | None
    """(leaves, leaves), indexed by ILSVRC ID − 1: the height of the lowest common ancestor; 2010 only."""

    @cached_property
    def leaves(self) -> list[Synset]:
        """The synsets to predict."""
        return [synset for synset in self.synsets if not synset.num_children]

    @cached_property
    def wnids(self) -> list[str]:
        """WNIDs of the leaves, sorted; the position is the class index."""
        return sorted(synset.wnid for synset in self.leaves)

    @cached_property
    def ilsvrc_ids(self) -> dict[str, int]:
        """The ILSVRC ID of each leaf's WNID."""
        return {synset.wnid: synset.ilsvrc_id for synset in self.leaves}


def parse_meta(data: bytes, name: str) -> Devkit:
    """Return the contents of a `meta.mat`; `name` is its name in errors.

    Raises:
        InputError: not a MATLAB file, or not one of a devkit.
    """
    import scipy.io  # here, since it takes a quarter of a second that no other process should wait for

    try:
        content = scipy.io.loadmat(io.BytesIO(data), squeeze_me=True, variable_names=["synsets", "cost_matrix"])
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise InputError(f"{name} is not a MATLAB file that can be read ({error}); expected the devkit's meta.mat") from error
    records = np.atleast_1d(content.get("synsets", np.array([])))
    fields = set(records.dtype.names or ())
    numbering = sorted(fields & {"ILSVRC2010_ID", "ILSVRC2012_ID"})
    if not numbering or not set(FIELDS) <= fields:
        raise InputError(
            f"{name} has no array `synsets` with ILSVRC IDs and {', '.join(FIELDS)}; expected the devkit's meta.mat"
        )
    synsets = [_synset(record, numbering[0], f"{name}: synset {place}") for place, record in enumerate(records, start=1)]
    devkit = Devkit(synsets, _cost_matrix(content))
    _check(devkit, name)
    if numbering == ["ILSVRC2010_ID"] and devkit.cost_matrix is None:
        raise InputError(f"{name} has no `cost_matrix`, which that of 2010 has; it was cut short, fetch it again")
    return devkit


def parse_ground_truth(text: str, devkit: Devkit, num_images: int, name: str) -> list[str]:
    """Return the WNID of each image, in the order of the sorted file names; the text has one ILSVRC ID a line.

    Raises:
        InputError: another number of lines than images, or a line that is not the ID of a leaf.
    """
    lines = text.split()
    if len(lines) != num_images:
        raise InputError(
            f"{name} has {len(lines):,} lines but there are {num_images:,} images; it is for another set, or was cut"
        )
    wnids = {str(synset.ilsvrc_id): synset.wnid for synset in devkit.leaves}
    for number, line in enumerate(lines, start=1):
        if line not in wnids:
            raise InputError(f"{name}, line {number:,}: found {line[:20]!r}, expected an ILSVRC ID from 1 to {len(wnids):,}")
    return [wnids[line] for line in lines]


def _synset(record: Any, numbering: str, name: str) -> Synset:
    try:
        return Synset(
            ilsvrc_id=int(record[numbering]),
            wnid=str(record["WNID"]),
            words=str(record["words"]),
            gloss=str(record["gloss"]),
            num_children=int(record["num_children"]),
            children=tuple(int(child) for child in np.atleast_1d(record["children"])),
            wordnet_height=int(record["wordnet_height"]),
            num_train_images=int(record["num_train_images"]),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read ({error}); expected the devkit's meta.mat") from error


def _cost_matrix(content: dict[str, Any]) -> NDArray[np.uint8] | None:
    matrix = content.get("cost_matrix")
    return None if matrix is None else np.atleast_2d(matrix)


def _check(devkit: Devkit, name: str) -> None:
    """Check that IDs count from 1, leaves come first, WNIDs are unique, and costs are those of the leaves."""
    if [synset.ilsvrc_id for synset in devkit.synsets] != list(range(1, len(devkit.synsets) + 1)):
        raise InputError(
            f"{name}: the ILSVRC IDs do not count from 1 to {len(devkit.synsets):,}; expected the devkit's meta.mat"
        )
    leaves = devkit.leaves
    if not leaves or leaves[-1].ilsvrc_id != len(leaves) or len(devkit.ilsvrc_ids) != len(leaves):
        raise InputError(f"{name}: the leaves do not come first, each once; expected the devkit's meta.mat")
    if devkit.cost_matrix is not None and devkit.cost_matrix.shape != (len(leaves), len(leaves)):
        raise InputError(
            f"{name} has a cost matrix of shape {devkit.cost_matrix.shape} for {len(leaves):,} leaves; "
            f"expected the devkit's meta.mat"
        )
