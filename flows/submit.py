"""Weights to a submission: `python -m flows.submit --help`."""

from pathlib import Path

from prefect import flow

from data_shards.datasets.dataset import Split
from flows.command_line import run
from flows.presets import PresetName, load_preset
from tasks.compute import choose_compute
from tasks.job import Artifact
from tasks.jobs.predict import Views
from tasks.predict import predict_split
from tasks.shard import shard_split
from tasks.submit import write_submission
from tasks.train import open_weights
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="submit {preset} {split}")
def submit(
    weights: list[Path],
    preset: PresetName = "folder",
    source: Path | None = None,
    split: Split = "test",
    views: Views = 10,
    device: str = "auto",
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> Artifact:
    """Write what a network, or the average of several, predicts for a split in the form that ILSVRC took.

    Five ILSVRC IDs per line, best first, one line per image in the order of the file names. The images need no labels.

    Args:
        weights: Weights files, weights.safetensors of finished runs.
        preset: Which experiment, of ILSVRC images.
        source: Folder or archive that holds the images.
        split: Which images: test, val or train.
        views: 10 for the corners, the centre and their reflections, 1 for the centre.
        device: auto, cpu, cuda, or two such as cuda:0,cuda:1, which share the images.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work instead.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(preset, source)
    compute = choose_compute(device, None)
    networks = [open_weights(path) for path in weights]
    with locked(workspace, reuse, cluster) as made_in:
        shards = shard_split(plan.target, split, plan.shards, made_in)
        predictions = predict_split(networks, shards, split, views, compute, made_in)
        return write_submission(predictions, shards, split, made_in)


if __name__ == "__main__":
    run(submit)
