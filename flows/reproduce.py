"""Images to Table 2: `python -m flows.reproduce --help`."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from base.errors import InputError
from data_shards.datasets.dataset import Split
from flows.command_line import run
from flows.presets import Preset, PresetName, load_preset
from flows.rows import paper_rows
from model.training.config import Precision, TrainConfig
from model.training.recipes import RecipeName
from tasks.compute import Compute, choose_compute
from tasks.job import Artifact, Weights
from tasks.jobs.predict import Views
from tasks.jobs.train import Layout, TrainJob
from tasks.predict import predict_split
from tasks.prepare import choose_splits, training_set
from tasks.section6 import Section6Record, write_section6
from tasks.shard import shard_split
from tasks.tabulate import TableRecord, write_error_rates
from tasks.train import plan_training, train_networks
from tasks.workspace import DEFAULT_WORKSPACE, Workspace, locked

VIEWS: Views = 10
"""[K12 §4.1]"""

Positive = Annotated[int, Field(gt=0)]


class ReproduceRecord(BaseModel):
    """The tables, and section 6.1 if it was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tables: TableRecord
    section6: Section6Record | None

    def __str__(self) -> str:
        return str(self.tables) if self.section6 is None else f"{self.tables}\n\n{self.section6}"


@flow(flow_run_name="reproduce {preset}")
def reproduce(
    preset: PresetName = "demo",
    source: Path | None = None,
    seed: Annotated[int, Field(ge=0)] = 0,
    recipe: RecipeName | None = None,
    epochs: Positive | None = None,
    pretrain_epochs: Positive | None = None,
    finetune_epochs: Positive | None = None,
    num_networks: Positive | None = None,
    num_pretrained: Annotated[int, Field(ge=0)] | None = None,
    num_classes: Annotated[int, Field(gt=1)] | None = None,
    precision: Precision | None = None,
    device: str = "auto",
    layout: Layout | None = None,
    report: bool = True,
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> ReproduceRecord:
    """Make a table of the paper: networks that differ by seed, others pre-trained on a superset, each alone and averaged.

    Args:
        preset: Which experiment: ilsvrc2012 (Table 2; its superset is Fall 2011), ilsvrc2010 (Table 1) or fall2009, from the
            official archives; demo (synthetic images), tiny (Tiny ImageNet) or folder (your own, at full size).
        source: Folder or archive that holds the images; synthetic ones need none.
        seed: Seed of the first network; the others count up from it.
        recipe: paper (what its text says), code2012 or code2010 (what its authors ran) or dexp (an unattended schedule),
            epochs included. Default: the preset's trainings.
        epochs: Epochs of the networks that are trained from scratch. Default: the preset's.
        pretrain_epochs: Epochs on the superset. Default: the preset's.
        finetune_epochs: Epochs on the target after that. Default: the preset's.
        num_networks: How many are trained from scratch. Default: the preset's five.
        num_pretrained: How many are pre-trained and fine-tuned. Default: the preset's two.
        num_classes: Number of classes, the first in WNID order, for tiny. Default: the preset's.
        precision: fp32, tf32 (on NVIDIA GPUs) or bf16, faster. Default: the preset's.
        device: auto, cpu, cuda, or several such as cuda:0,cuda:1.
        layout: towers (one after the other, or on two devices one on each), one-piece (on one device) or replicas (one on each
            device, sharing every batch). Default: what suits the devices.
        report: Whether section 6.1 follows: kernels, nearest training images, binary codes, and all of it as one page.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do all but the training.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(
        preset,
        source,
        recipe,
        target={"num_classes": num_classes},
        training={"epochs": epochs, "precision": precision},
        pre_training={"epochs": pretrain_epochs, "precision": precision},
        fine_tuning={"epochs": finetune_epochs, "precision": precision},
    )
    plan = plan.with_networks(num_networks, num_pretrained)
    compute = choose_compute(device, plan.threads_per_network, layout)
    with locked(workspace, reuse, cluster) as made_in:
        _find_superset(plan, made_in)
        target = training_set(plan.target, plan.shards, made_in)
        superset = training_set(plan.superset, plan.shards, made_in) if plan.superset and plan.num_pretrained else None
        pre_trainings = _pre_trainings(plan, preset, seed, superset, compute)  # first, because they take longest
        pre_trained = train_networks(pre_trainings, compute, made_in) if pre_trainings else []
        tunings = _fine_tunings(plan, preset, seed, target, compute, pre_trained)
        networks = train_networks([*_from_scratch(plan, preset, seed, target, compute), *tunings], compute, made_in)
        plain, starred = networks[: plan.num_networks], networks[plan.num_networks :]
        scored = shard_split(plan.target, plan.scored_on, plan.shards, made_in)
        predictions = predict_split(networks, scored, plan.scored_on, VIEWS, compute, made_in)
        rows = paper_rows(plan.table, len(plain), len(starred), seed)
        tables = write_error_rates(rows, predictions, networks, scored, plan.scored_on, VIEWS, preset, made_in)
        if plan.retrieval is None or not report:
            return ReproduceRecord(tables=tables, section6=None)
        names = {f"CNN, seed {seed + n}": weights for n, weights in enumerate(plain)}
        shards: dict[Split, Artifact] = {"train": target["train"], plan.scored_on: scored}
        section6 = write_section6(
            preset, names, shards, plan.scored_on, predictions[0], plan.table, plan.retrieval, compute, made_in, others=starred
        )
        return ReproduceRecord(tables=tables, section6=section6)


def _find_superset(plan: Preset, workspace: Workspace) -> None:
    """Make sure that its files exist before the hours of work that come first."""
    if plan.superset is None or not plan.num_pretrained:
        return
    try:
        choose_splits(plan.superset, ["train"], workspace.sources)
    except InputError as error:
        raise InputError(
            f"the starred networks are pre-trained on {plan.superset.kind}, and its {error}; "
            f"put it there, or set num_pretrained to 0"
        ) from error


def _from_scratch(plan: Preset, preset: str, seed: int, target: dict[str, Artifact], compute: Compute) -> list[TrainJob]:
    return [
        plan_training(f"{preset}-cnn-{n}", plan.recipe, plan.network, _seeded(plan.training, n), target, compute)
        for n in range(seed, seed + plan.num_networks)
    ]


def _pre_trainings(
    plan: Preset, preset: str, seed: int, superset: dict[str, Artifact] | None, compute: Compute
) -> list[TrainJob]:
    """The starred networks have a sixth convolutional layer. [K12 §6]"""
    if superset is None:
        return []
    network = plan.network.model_copy(update={"sixth_conv": True, "bottleneck": plan.pre_training_bottleneck})
    return [
        plan_training(f"{preset}-pre-trained-{n}", plan.recipe, network, _seeded(plan.pre_training, n), superset, compute)
        for n in range(seed, seed + plan.num_pretrained)
    ]


def _fine_tunings(
    plan: Preset, preset: str, seed: int, target: dict[str, Artifact], compute: Compute, initial: list[Weights]
) -> list[TrainJob]:
    network = plan.network.model_copy(update={"sixth_conv": True})
    return [
        plan_training(f"{preset}-fine-tuned-{n}", plan.recipe, network, _seeded(plan.fine_tuning, n), target, compute, weights)
        for n, weights in enumerate(initial, start=seed)
    ]


def _seeded(config: TrainConfig, seed: int) -> TrainConfig:
    return config.model_copy(update={"seed": seed})


if __name__ == "__main__":
    run(reproduce)
