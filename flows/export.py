"""Weights to a folder that others can use without this project: `python -m flows.export --help`."""

from pathlib import Path

from prefect import flow

from flows.command_line import run
from flows.rows import names_of
from tasks.export import ExportRecord, check_onnx, export_network, open_shards
from tasks.train import open_weights
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="export to {to}")
def export(
    weights: Path,
    to: Path,
    onnx: bool = False,
    shards: Path | None = None,
    name: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> ExportRecord:
    """Write a network for others: one plain PyTorch module, its state_dict as safetensors, its classes and a model card.

    The copies are compared with the network on real images. The card holds the error rates of the workspace's tables.

    Args:
        weights: Weights file, weights.safetensors of a finished run.
        to: Folder to write.
        onnx: Also write an ONNX file. It needs requirements-onnx.txt.
        shards: Folder of a finished set of shards of the same classes: their words, and the images for the comparison.
            Default: the validation images of the run.
        name: What the card calls the network. Default: the name of the run.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    if onnx:
        check_onnx()
    network = open_weights(weights)
    images = open_shards(shards, network)
    called = names_of([weights], None if name is None else [name])[0]
    with locked(workspace, reuse) as made_in:
        return export_network(called, network, images, onnx, to, made_in)


if __name__ == "__main__":
    run(export)
