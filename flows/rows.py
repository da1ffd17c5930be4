"""Which rows an evaluation measures, and what they are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from base.errors import InputError
from tasks.tabulate import RowPlan

TableName = Literal["evaluation", "table1", "table2", "fall2009"]

ONE_NETWORK = {"table1": "CNN", "fall2009": "CNN with a sixth convolutional layer"}
"""[K12 table 1, §6] What a single network is called there; `1 CNN` elsewhere."""


def names_of(weights: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """Return what the rows are called: as given, or `demo-cnn-0` for `runs/demo-cnn-0/<key>/weights.safetensors`.

    Raises:
        InputError: not one name for each weights file.
    """
    if names is None:
        return [path.absolute().parent.parent.name for path in weights]
    if len(names) != len(weights):
        raise InputError(f"{len(names):,} names for {len(weights):,} weights files; expected one for each")
    return list(names)


def evaluation_rows(table: TableName, names: Sequence[str]) -> list[RowPlan]:
    """Return a row for each network, and if there are several one for their average."""
    alone = [RowPlan(table=table, model=name, members=(n,)) for n, name in enumerate(names)]
    together = RowPlan(table=table, model=f"{len(names)} networks", members=tuple(range(len(names))))
    return [*alone, together] if len(names) > 1 else alone


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
