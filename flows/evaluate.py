"""Weights to error rates: `python -m flows.evaluate --help`."""

from pathlib import Path

from prefect import flow

from data_shards.datasets.dataset import Split
from flows.command_line import run
from flows.other_sets import shard_others
from flows.presets import PresetName, TestSetName, load_preset
from flows.rows import TableName, evaluation_rows, names_of
from tasks.compute import choose_compute
from tasks.jobs.predict import Views
from tasks.predict import predict_split
from tasks.shard import shard_split
from tasks.tabulate import RowPlan, TableRecord, search_member_weights, write_error_rates
from tasks.train import open_weights
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="evaluate {preset} {split}")
def evaluate(
    weights: list[Path],
    preset: PresetName = "demo",
    source: Path | None = None,
    split: Split = "val",
    on: TestSetName | None = None,
    on_source: Path | None = None,
    labels: Path | None = None,
    views: Views = 10,
    table: TableName = "evaluation",
    names: list[str] | None = None,
    search_weights: bool = False,
    device: str = "auto",
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> TableRecord:
    """Score networks on an experiment's images, each alone and, if there are several, averaged.

    Args:
        weights: Weights files, weights.safetensors of finished runs.
        preset: Which experiment.
        source: Folder or archive that holds the images; synthetic ones need none.
        split: Which images: train, val or test. Without labels, everything that depends on labels is null.
        on: Also score the networks on another test set, with its own rows: imagenet-v2, imagenet-a, imagenet-r or
            imagenet-sketch. If it has some of the classes only, they are ranked among these, there and on the split.
        on_source: The archive or the folder of that set.
        labels: Also score the split by other labels: real.json of ReaL, for the validation images of ILSVRC-2012.
        views: 10 for the corners, the centre and their reflections, 1 for the centre.
        table: The paper's table that gets the rows, beside the published ones.
        names: Names of the rows, one for each weights file. Default: the names of the runs.
        search_weights: Also average with weights that have the fewest top-5 errors on the validation images.
        device: auto, cpu, cuda, or two such as cuda:0,cuda:1, which share the images.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work instead.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(preset, source)
    compute = choose_compute(device, None)
    networks = [open_weights(path) for path in weights]
    rows = evaluation_rows(table, names_of(weights, names))
    with locked(workspace, reuse, cluster) as made_in:
        shards = shard_split(plan.target, split, plan.shards, made_in)
        others = shard_others(on, on_source, labels, shards, split, plan.shards, made_in)
        predictions = predict_split(networks, shards, split, views, compute, made_in)
        scored = [other.scored(predict_split(networks, other.shards, other.split, views, compute, made_in)) for other in others]
        if search_weights and len(networks) > 1:
            val = shard_split(plan.target, "val", plan.shards, made_in)
            found = search_member_weights(predict_split(networks, val, "val", views, compute, made_in))
            name = f"{len(networks)} networks, weights searched on val"
            members = tuple(range(len(networks)))
            rows.append(RowPlan(table=table, model=name, members=members, member_weights=found, selected_on="val"))
        return write_error_rates(rows, predictions, networks, shards, split, views, preset, made_in, scored)


if __name__ == "__main__":
    run(evaluate)
