"""Any classifier's weights to error rates: `python -m flows.evaluate_classifier --help`."""

from hashlib import sha256
from pathlib import Path

from prefect import flow

from data_shards.datasets.dataset import Split
from flows.command_line import run
from flows.evaluate import TableName, names_of, plan_rows, scope_of
from flows.presets import PresetName, load_preset
from model.evaluation.classifiers import Classifier, Triple, read_classes
from tasks.compute import choose_compute
from tasks.predict import predict_split
from tasks.shard import shard_split
from tasks.tabulate import TableRecord, write_error_rates
from tasks.train import open_weights
from tasks.workers.jobs import Views
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="evaluate {factory} {preset} {split}")
def evaluate_classifier(
    weights: list[Path],
    factory: str,
    classes: Path,
    input_size: int = 224,
    mean: Triple = (123.675, 116.28, 103.53),
    scale: Triple = (58.395, 57.12, 57.375),
    preset: PresetName = "demo",
    source: Path | None = None,
    split: Split = "val",
    views: Views = 10,
    table: TableName = "evaluation",
    names: list[str] | None = None,
    device: str = "auto",
    workspace: Path = DEFAULT_WORKSPACE,
) -> TableRecord:
    """Score networks that are not of this project as its own are scored: each alone and, where there are several, averaged.

    Loading weights runs none of what they hold; the factory's code is run.

    Args:
        weights: Weights files: safetensors, or a state dict saved by torch.save.
        factory: What builds the network, package.module:function; called without arguments it returns a module giving logits.
        classes: Text file with the WNID of each output, one a line, in the order of the outputs.
        input_size: Side in pixels of the crops that it reads.
        mean: Of red, green and blue in 0…255, subtracted from every pixel.
        scale: What is left is divided by these; 255 255 255 with a mean of 0 0 0 gives 0…1.
        preset: Which experiment's images.
        source: Folder or archive that holds the images; synthetic ones need none.
        split: Which images: train, val or test.
        views: 10 for the corners, the centre and their reflections, 1 for the centre.
        table: In which of the paper's tables the rows stand, beside the published ones.
        names: How the rows are called, one for each weights file; else as the folder two above it.
        device: auto, cpu, cuda, or two such as cuda:0,cuda:1, which share the images.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(preset, source)
    compute = choose_compute(device, None)
    wnids = read_classes(classes)
    classifier = Classifier(factory=factory, input_size=input_size, mean=mean, scale=scale, wnids=wnids)
    networks = [open_weights(path) for path in weights]
    rows = plan_rows(table, names_of(weights, names))
    config = sha256((plan.digest + classifier.model_dump_json()).encode()).hexdigest()
    with locked(workspace) as workspace:
        shards = shard_split(plan.target, split, plan.shards, workspace)
        predictions = predict_split(networks, shards, split, views, compute, workspace, classifier)
        scope = scope_of(shards, split, views, preset, config)
        return write_error_rates(rows, predictions, networks, scope, workspace, shards)


if __name__ == "__main__":
    run(evaluate_classifier)
