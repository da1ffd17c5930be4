"""Images to one network's weights: `python -m flows.train --help`."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from base.errors import InputError
from flows.command_line import run
from flows.presets import PresetName, load_preset
from model.network.weights import read_info
from model.training.config import Precision
from model.training.recipes import RecipeName
from tasks.compute import choose_compute
from tasks.jobs.train import Layout
from tasks.prepare import training_set
from tasks.train import TrainRecord, open_weights, plan_training, read_record, train_networks
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="train {preset}, seed {seed}")
def train(
    preset: PresetName = "demo",
    source: Path | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    recipe: RecipeName | None = None,
    epochs: Annotated[int, Field(gt=0)] | None = None,
    batch_size: Annotated[int, Field(gt=0)] | None = None,
    learning_rate: Annotated[float, Field(gt=0)] | None = None,
    width: Annotated[float, Field(gt=0, le=1)] | None = None,
    num_classes: Annotated[int, Field(gt=1)] | None = None,
    initial_weights: Path | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    layout: Layout | None = None,
    machines: Annotated[int, Field(gt=0)] = 1,
    endpoint: str | None = None,
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> TrainRecord:
    """Train one network, from scratch or from other weights; its images are sharded first if they are not yet.

    Args:
        preset: Which experiment.
        source: Folder or archive that holds the images; synthetic ones need none.
        seed: Seed of the initial weights, the order of the images, crops, colour noise and dropout.
        recipe: paper (what its text says), code2012 or code2010 (what its authors ran) or dexp (an unattended schedule),
            epochs included. Default: the preset's training.
        epochs: Number of epochs. Default: the preset's.
        batch_size: Images per step. Default: the preset's.
        learning_rate: Initial rate of the weights. Default: the preset's.
        width: Share of each layer's kernels. Default: the preset's.
        num_classes: Number of classes, the first in WNID order, for tiny. Default: the preset's.
        initial_weights: Weights file to fine-tune: all layers but the last are copied, the preset's fine-tuning recipe is used.
        precision: fp32, tf32 (on NVIDIA GPUs) or bf16, faster. Default: the preset's.
        device: auto, cpu, cuda, or several such as cuda:0,cuda:1.
        layout: towers (one after the other, or on two devices one on each), one-piece (on one device) or replicas (one on each
            device, sharing every batch). Default: what suits the devices.
        machines: How many machines have replicas on these devices. The log says what to run on the others.
        endpoint: HOST:PORT of this machine, at which the others meet it.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers write the shards.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    if initial_weights is not None and width is not None:
        raise InputError(
            f"both a width and {initial_weights} were given; a network that is fine-tuned has the width of its weights"
        )
    changes = {"seed": seed, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "precision": precision}
    images, size = {"num_classes": num_classes}, {"width": width}
    plan = load_preset(preset, source, recipe, target=images, network=size, training=changes, fine_tuning=changes)
    compute = choose_compute(device, plan.threads_per_network, layout, machines, endpoint)
    with locked(workspace, reuse, cluster) as made_in:
        data = training_set(plan.target, plan.shards, made_in)
        if initial_weights is None:
            job = plan_training(f"{preset}-cnn-{seed}", plan.recipe, plan.network, plan.training, data, compute)
        else:
            initial = open_weights(initial_weights)
            network = read_info(initial.path).network.model_copy(update={"bottleneck": None})
            name = f"{preset}-fine-tuned-{seed}"
            job = plan_training(name, plan.recipe, network, plan.fine_tuning, data, compute, initial)
        return read_record(train_networks([job], compute, made_in)[0])


if __name__ == "__main__":
    run(train)
