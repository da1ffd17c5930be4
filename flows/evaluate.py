"""Weights to error rates: `python -m flows.evaluate --help`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prefect import flow

from data_shards.datasets.dataset import Split
from flows.command_line import run
from flows.presets import PresetName, load_preset
from tasks.artifacts import Artifact
from tasks.compute import choose_compute
from tasks.predict import predict_split
from tasks.shard import dataset_name, shard_split
from tasks.tabulate import RowPlan, Scope, TableRecord, search_member_weights, write_error_rates
from tasks.train import open_weights
from tasks.workers.jobs import Views
from tasks.workspace import DEFAULT_WORKSPACE, locked

TableName = Literal["evaluation", "table1", "table2", "fall2009"]


@flow(flow_run_name="evaluate {preset} {split}")
def evaluate(
    weights: list[Path],
    preset: PresetName = "demo",
    source: Path | None = None,
    split: Split = "val",
    views: Views = 10,
    table: TableName = "evaluation",
    names: list[str] | None = None,
    search_weights: bool = False,
    device: str = "auto",
    workspace: Path = DEFAULT_WORKSPACE,
) -> TableRecord:
    """Score networks on an experiment's images, each alone and, where there are several, averaged.

    Args:
        weights: Weights files, weights.safetensors of finished runs.
        preset: Which experiment.
        source: Folder or archive that holds the images; synthetic ones need none.
        split: Which images: train, val or test. Where they have no labels, what hangs on labels is null.
        views: 10 for the corners, the centre and their reflections, 1 for the centre.
        table: In which of the paper's tables the rows stand, beside the published ones.
        names: How the networks' rows are called, one for each weights file; else as their runs are.
        search_weights: Also average with weights that have the fewest top-5 errors on the validation images.
        device: auto, cpu, cuda, or two such as cuda:0,cuda:1, which share the images.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(preset, source)
    compute = choose_compute(device, None)
    networks = [open_weights(path) for path in weights]
    rows = plan_rows(table, names_of(weights, names))
    with locked(workspace) as workspace:
        shards = shard_split(plan.target, split, plan.shards, workspace)
        predictions = predict_split(networks, shards, split, views, compute, workspace)
        if search_weights and len(networks) > 1:
            val = shard_split(plan.target, "val", plan.shards, workspace)
            found = search_member_weights(predict_split(networks, val, "val", views, compute, workspace))
            name = f"{len(networks)} networks, weights searched on val"
            members = tuple(range(len(networks)))
            rows.append(RowPlan(table=table, model=name, members=members, member_weights=found, selected_on="val"))
        scope = scope_of(shards, split, views, preset, plan.digest)
        return write_error_rates(rows, predictions, networks, scope, workspace, shards)


def names_of(weights: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """Return how the rows are called: as given, or `demo-cnn-0` for `runs/demo-cnn-0/<digest>/weights.safetensors`.

    Raises:
        ValueError: not one name for each weights file.
    """
    if names is None:
        return [path.absolute().parent.parent.name for path in weights]
    if len(names) != len(weights):
        raise ValueError(f"{len(names):,} names for {len(weights):,} weights files; expected one for each")
    return list(names)


def plan_rows(table: TableName, names: Sequence[str]) -> list[RowPlan]:
    """Return a row for each network, and where there are several one for their average."""
    alone = [RowPlan(table=table, model=name, members=(n,)) for n, name in enumerate(names)]
    together = RowPlan(table=table, model=f"{len(names)} networks", members=tuple(range(len(names))))
    return [*alone, together] if len(names) > 1 else alone


def scope_of(shards: Artifact, split: Split, views: Views, recipe: str, config: str) -> Scope:
    """Return what all rows measured on these shards share."""
    name = dataset_name(shards)
    return Scope(dataset=name, split=split, views=views, shards=shards.digest, recipe=recipe, config=config)


if __name__ == "__main__":
    run(evaluate)
