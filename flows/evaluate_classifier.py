"""Any classifier's weights to error rates: `python -m flows.evaluate_classifier --help`."""

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from data_shards.datasets.dataset import Split
from data_shards.storage import STORAGE_PATTERN
from flows.command_line import run
from flows.other_sets import shard_others
from flows.presets import PresetName, TestSetName, load_preset
from flows.rows import TableName, evaluation_rows, names_of
from model.evaluation.classifiers import Classifier, Triple, read_classes
from tasks.compute import choose_compute
from tasks.jobs.predict import Views
from tasks.predict import predict_split
from tasks.shard import shard_split
from tasks.tabulate import TableRecord, write_error_rates
from tasks.train import open_weights
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="evaluate {factory} {preset} {split}")
def evaluate_classifier(
    weights: list[Path],
    factory: str,
    classes: Path,
    input_size: int = 224,
    mean: Triple = (123.675, 116.28, 103.53),
    scale: Triple = (58.395, 57.12, 57.375),
    other_classes: Literal["refuse", "leave-out", "rank"] = "refuse",
    preset: PresetName = "demo",
    source: Path | None = None,
    storage: Annotated[str, Field(pattern=STORAGE_PATTERN)] | None = None,
    split: Split = "val",
    on: TestSetName | None = None,
    on_source: Path | None = None,
    labels: Path | None = None,
    views: Views = 10,
    table: TableName = "evaluation",
    names: list[str] | None = None,
    device: str = "auto",
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> TableRecord:
    """Score networks that are not of this project in the same way as its own: each alone and, if there are several, averaged.

    Loading weights runs none of what they hold; the factory's code is run.

    Args:
        weights: Weights files: safetensors, or a state dict or a checkpoint that holds one, saved by torch.save.
        factory: What builds the network, package.module:function; called without arguments it returns a module giving logits.
        classes: Text file with the WNID of each output, one per line, in the order of the outputs.
        input_size: Side in pixels of the crops that it reads.
        mean: Of red, green and blue in 0…255, subtracted from every pixel.
        scale: What is left is divided by these; 255 255 255 with a mean of 0 0 0 gives 0…1.
        other_classes: If the images have others: refuse them, leave-out the outputs of unknown classes, or rank all outputs.
            With the latter two, images of a class that the list does not name count as wrong.
        preset: Which experiment's images.
        source: Folder or archive that holds the images; synthetic ones need none.
        storage: How images are stored: square384 or more for a network that reads 384 pixels. Default: the preset's.
        split: Which images: train, val or test.
        on: Also score the networks on another test set, with its own rows: imagenet-v2, imagenet-a, imagenet-r or
            imagenet-sketch. If it has some of the classes only, they are ranked among these, there and on the split.
        on_source: The archive or the folder of that set.
        labels: Also score the split by other labels: real.json of ReaL, for the validation images of ILSVRC-2012.
        views: 10 for the corners, the centre and their reflections, 1 for the centre.
        table: The paper's table that gets the rows, beside the published ones.
        names: Names of the rows, one for each weights file. Default: the folder two above it, or the file.
        device: auto, cpu, cuda, or two such as cuda:0,cuda:1, which share the images.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work instead.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(preset, source, shards={"storage": storage})
    compute = choose_compute(device, None)
    wnids = read_classes(classes)
    classifier = Classifier(
        factory=factory,
        input_size=input_size,
        mean=mean,
        scale=scale,
        wnids=wnids,
        other_classes=None if other_classes == "refuse" else other_classes,
    )
    networks = [open_weights(path) for path in weights]
    rows = evaluation_rows(table, names_of(weights, names))
    with locked(workspace, reuse, cluster) as made_in:
        shards = shard_split(plan.target, split, plan.shards, made_in)
        others = shard_others(on, on_source, labels, shards, split, plan.shards, made_in, wnids)
        predictions = predict_split(networks, shards, split, views, compute, made_in, classifier)
        scored = [
            other.scored(predict_split(networks, other.shards, other.split, views, compute, made_in, classifier))
            for other in others
        ]
        return write_error_rates(rows, predictions, networks, shards, split, views, preset, made_in, scored)


if __name__ == "__main__":
    run(evaluate_classifier)
