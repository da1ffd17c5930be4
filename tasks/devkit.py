"""The devkit of a competition, from its `meta.mat` or from the archive that holds it, for those who score by it."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

from data_shards.datasets.devkit import Devkit, parse_meta
from model.evaluation.hierarchical import by_class_index
from model.evaluation.tables import CostMatrix

META = "meta.mat"


def read_devkit(path: Path) -> Devkit:
    """Return what a devkit's `meta.mat` says; `path` is that file, or the devkit's tar.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not of a devkit.
    """
    path = path.expanduser()
    if not tarfile.is_tarfile(path):
        return parse_meta(path.read_bytes(), str(path))
    with tarfile.open(path) as tar:
        for member in tar:
            data = tar.extractfile(member) if Path(member.name).name == META else None
            if data is not None:
                return parse_meta(data.read(), f"{META} in {path}")
    raise ValueError(f"{path} holds no {META}; expected the devkit of ILSVRC-2010 or 2012")


def read_cost_matrix(path: Path, wnids: Sequence[str]) -> CostMatrix:
    """Return the devkit's cost matrix in the order of the class index; its classes must be `wnids`.

    Raises:
        OSError: the devkit cannot be read.
        ValueError: it is of other classes, or has no cost matrix.
    """
    devkit = read_devkit(path)
    if devkit.cost_matrix is None:
        raise ValueError(f"{path} has no cost matrix; only the devkit of ILSVRC-2010 has one")
    if list(wnids) != devkit.wnids:
        shared = len(set(wnids) & set(devkit.wnids))
        raise ValueError(
            f"{path} is of {len(devkit.wnids):,} classes, of which {shared:,} are among the {len(wnids):,} that were scored; "
            f"expected the devkit of the images"
        )
    return by_class_index(devkit.cost_matrix, [devkit.ilsvrc_ids[wnid] for wnid in devkit.wnids])
