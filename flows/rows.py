"""Which rows an evaluation measures, and what they are called."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from base.errors import InputError
from tasks.tabulate import RowPlan

TableName = Literal["evaluation", "table1", "table2", "fall2009"]

ONE_NETWORK = {"table1": "CNN", "fall2009": "CNN with a sixth convolutional layer"}
"""[K12 table 1, §6] What a single network is called there; `1 CNN` elsewhere."""


def names_of(weights: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """Return a different name for each row: as given, or `demo-cnn-0` for `runs/demo-cnn-0/<key>/weights.safetensors`.

    Files whose folders are called the same are named by the file, or if that is the same too by as much of the path as differs.

    Raises:
        InputError: not one name for each weights file, a name or a file that was given twice, or the name of the average's row.
    """
    if names is None:
        names = _names_from([path.expanduser().absolute() for path in weights])
    elif len(names) != len(weights):
        raise InputError(f"{len(names):,} names for {len(weights):,} weights files; expected one for each")
    for name, count in Counter([*names, *_together(len(names))]).items():
        if count > 1:
            raise InputError(f"the name {name!r} stands for two rows; expected --names with a different name for each")
    return list(names)


def evaluation_rows(table: TableName, names: Sequence[str]) -> list[RowPlan]:
    """Return a row for each network, and if there are several one for their average."""
    alone = [RowPlan(table=table, model=name, members=(n,)) for n, name in enumerate(names)]
    members = tuple(range(len(names)))
    return alone + [RowPlan(table=table, model=model, members=members) for model in _together(len(names))]


def paper_rows(table: str, num_plain: int, num_starred: int, seed: int) -> list[RowPlan]:
    """Return the rows of one of the paper's tables in its order, then a row for every network alone."""
    plain, everyone = tuple(range(num_plain)), tuple(range(num_plain + num_starred))
    rows = [(ONE_NETWORK.get(table, "1 CNN"), plain[:1])]
    if num_plain > 1:
        rows += [(f"{num_plain} CNNs", plain)]
    if num_starred:
        rows += [("1 CNN*", everyone[num_plain : num_plain + 1]), (f"{len(everyone)} CNNs*", everyone)]
    alone = [(f"CNN, seed {seed + n}", (n,)) for n in plain]
    alone += [(f"CNN*, seed {seed + n}", (num_plain + n,)) for n in range(num_starred)]
    return [
        *(RowPlan(table=table, model=model, members=members) for model, members in rows),
        *(RowPlan(table="members", model=model, members=members) for model, members in alone),
    ]


def _together(num_networks: int) -> list[str]:
    """Return what the row of the average is called, if there is one."""
    return [f"{num_networks} networks"] if num_networks > 1 else []


def _names_from(paths: Sequence[Path]) -> list[str]:
    """Return the shortest name of each file that no other file has.

    Raises:
        InputError: a file was given twice.
    """
    twice = next((path for path, count in Counter(paths).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"the weights file {twice} was given twice; give each network once")
    candidates = [[path.parent.parent.name, path.stem, *_endings(path)] for path in paths]
    names = []
    for path, mine in zip(paths, candidates, strict=True):
        taken = {name for other, theirs in zip(paths, candidates, strict=True) if other != path for name in theirs}
        names.append(next(name for name in mine if name and name not in taken))
    return names


def _endings(path: Path) -> list[str]:
    """Return `v1/w.safetensors`, `runs/v1/w.safetensors` and so on, up to the whole path."""
    return ["/".join(path.parts[-length:]) for length in range(2, len(path.parts))] + [str(path)]
