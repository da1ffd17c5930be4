"""Weights to error rates: `python -m flows.evaluate --help`."""

from pathlib import Path

from prefect import flow

from flows.command_line import run
from flows.presets import PresetName, load_preset
from tasks.compute import choose_compute
from tasks.predict import predict_split
from tasks.shard import dataset_name, shard_split
from tasks.tabulate import RowPlan, Scope, TableRecord, write_error_rates
from tasks.train import open_weights
from tasks.workers.jobs import Views
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="evaluate {preset}")
def evaluate(
    weights: list[Path],
    preset: PresetName = "demo",
    source: Path | None = None,
    views: Views = 10,
    device: str = "auto",
    workspace: Path = DEFAULT_WORKSPACE,
) -> TableRecord:
    """Score networks on an experiment's validation images, each alone and, where there are several, averaged.

    Args:
        weights: Weights files, weights.safetensors of finished runs.
        preset: Which experiment.
        source: Folder or archive that holds the images; synthetic ones need none.
        views: 10 for the corners, the centre and their reflections, 1 for the centre.
        device: auto, cpu or cuda.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(preset, source)
    compute = choose_compute(device, None)
    with locked(workspace) as workspace:
        shards = shard_split(plan.target, "val", plan.shards, workspace)
        networks = [open_weights(path) for path in weights]
        predictions = predict_split(networks, shards, "val", views, compute, workspace)
        alone = [RowPlan(table="evaluation", model=_name(path), members=(n,)) for n, path in enumerate(weights)]
        together = [RowPlan(table="evaluation", model=f"{len(weights)} networks", members=tuple(range(len(weights))))]
        plans = alone + (together if len(weights) > 1 else [])
        scope = Scope(
            dataset=dataset_name(shards), split="val", views=views, shards=shards.digest, recipe=preset, config=plan.digest
        )
        return write_error_rates(plans, predictions, networks, scope, workspace)


def _name(weights: Path) -> str:
    """`demo-cnn-0` for `runs/demo-cnn-0/<digest>/weights.safetensors`."""
    return weights.absolute().parent.parent.name


if __name__ == "__main__":
    run(evaluate)
