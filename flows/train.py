"""Images to one network's weights: `python -m flows.train --help`."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.command_line import run
from flows.presets import PresetName, load_preset
from flows.shard import prepare
from model.network.config import NetworkConfig
from model.network.weights import read_info
from model.training.config import Precision, TrainConfig
from model.training.recipes import RecipeName
from tasks.compute import choose_compute
from tasks.train import Training, TrainingSet, Weights, open_weights, train_networks
from tasks.workers.jobs import Layout
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
    initial_weights: Path | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    layout: Layout | None = None,
    workspace: Path = DEFAULT_WORKSPACE,
) -> Weights:
    """Train one network, from the start or from other weights, sharding the images first where that is not done.

    Args:
        preset: Which experiment.
        source: Folder or archive that holds the images; synthetic ones need none.
        seed: Of the initial weights, the order of the images, crops, colour noise and dropout.
        recipe: paper (what its text says), code2012 or code2010 (what its authors ran) or dexp (for runs that nobody watches),
            epochs included, instead of the preset's training.
        epochs: Instead of the preset's.
        batch_size: Instead of the preset's.
        learning_rate: Instead of the preset's.
        width: Share of each layer's kernels, instead of the preset's.
        initial_weights: Weights file to fine-tune: all layers but the last are copied, the preset's fine-tuning recipe is used.
        precision: fp32, tf32 (on NVIDIA GPUs) or bf16, faster, instead of the preset's.
        device: auto, cpu, cuda, or several such as cuda:0,cuda:1.
        layout: towers (one after the other, or on two devices one on each), one-piece (on one device) or replicas (one on each
            device, sharing every batch); what suits the devices where not given.
        workspace: Folder for everything that is made.
    """
    if initial_weights is not None and width is not None:
        raise ValueError(
            f"both a width and {initial_weights} were given; a network that is fine-tuned has the width of its weights"
        )
    changes = {"seed": seed, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "precision": precision}
    plan = load_preset(preset, source, recipe, network={"width": width}, training=changes, fine_tuning=changes)
    compute = choose_compute(device, plan.threads_per_network, layout)
    with locked(workspace) as workspace:
        data = prepare(plan.target, plan.shards, workspace)
        if initial_weights is None:
            training = plan_training(f"{preset}-cnn-{seed}", plan.network, plan.training, data)
        else:
            initial = open_weights(initial_weights)
            network = read_info(initial.path).network.model_copy(update={"bottleneck": None})
            training = plan_training(f"{preset}-fine-tuned-{seed}", network, plan.fine_tuning, data, initial)
        return train_networks([training], compute, workspace)[0]


def plan_training(
    name: str, network: NetworkConfig, config: TrainConfig, data: TrainingSet, initial: Weights | None = None
) -> Training:
    """Return the training of a network with an output for every class of the data."""
    network = network.model_copy(update={"num_classes": data.train.counts["classes"]})
    return Training(name=name, network=network, config=config, data=data, initial=initial)


if __name__ == "__main__":
    run(train)
