"""Images to Table 2: `python -m flows.reproduce --help`."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.command_line import run
from flows.evaluate import scope_of
from flows.presets import Preset, PresetName, load_preset
from flows.shard import choose_splits, prepare
from flows.train import plan_training
from model.training.config import Precision, TrainConfig
from model.training.recipes import RecipeName
from tasks.compute import choose_compute
from tasks.predict import predict_split
from tasks.shard import shard_split
from tasks.tabulate import RowPlan, TableRecord, write_error_rates
from tasks.train import Training, TrainingSet, Weights, train_networks
from tasks.workers.jobs import Layout, Views
from tasks.workspace import DEFAULT_WORKSPACE, locked

VIEWS: Views = 10
"""[K12 §4.1]"""

ONE_NETWORK = {"table1": "CNN", "fall2009": "CNN with a sixth convolutional layer"}
"""[K12 table 1, §6] What a single network is called there; `1 CNN` elsewhere."""

Positive = Annotated[int, Field(gt=0)]


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
    precision: Precision | None = None,
    device: str = "auto",
    layout: Layout | None = None,
    workspace: Path = DEFAULT_WORKSPACE,
) -> TableRecord:
    """Make a table of the paper: networks that differ by seed, others pre-trained on a superset, each alone and averaged.

    Args:
        preset: Which experiment: ilsvrc2012 (Table 2; its superset is Fall 2011), ilsvrc2010 (Table 1) or fall2009, from the
            official archives; demo (synthetic images), tiny (Tiny ImageNet) or folder (your own, at full size).
        source: Folder or archive that holds the images; synthetic ones need none.
        seed: Of the first network; the others count up from it.
        recipe: paper (what its text says), code2012 or code2010 (what its authors ran) or dexp (for runs that nobody watches),
            epochs included, instead of the preset's trainings.
        epochs: Of the networks trained from the start, instead of the preset's.
        pretrain_epochs: On the superset, instead of the preset's.
        finetune_epochs: On the target after that, instead of the preset's.
        num_networks: How many are trained from the start, instead of the preset's five.
        num_pretrained: How many are pre-trained and fine-tuned, instead of the preset's two.
        precision: fp32, tf32 (on NVIDIA GPUs) or bf16, faster, instead of the preset's.
        device: auto, cpu, cuda, or several such as cuda:0,cuda:1.
        layout: towers (one after the other, or on two devices one on each), one-piece (on one device) or replicas (one on each
            device, sharing every batch); what suits the devices where not given.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(
        preset,
        source,
        recipe,
        training={"epochs": epochs, "precision": precision},
        pre_training={"epochs": pretrain_epochs, "precision": precision},
        fine_tuning={"epochs": finetune_epochs, "precision": precision},
    )
    plan = plan.with_networks(num_networks, num_pretrained)
    compute = choose_compute(device, plan.threads_per_network, layout)
    with locked(workspace) as workspace:
        _find_superset(plan, workspace)
        target = prepare(plan.target, plan.shards, workspace)
        superset = prepare(plan.superset, plan.shards, workspace) if plan.superset and plan.num_pretrained else None
        pre_trainings = _pre_trainings(plan, preset, seed, superset)  # first, for they take longest
        trained = train_networks([*pre_trainings, *_from_scratch(plan, preset, seed, target)], compute, workspace)
        pre_trained, plain = trained[: len(pre_trainings)], trained[len(pre_trainings) :]
        tunings = _fine_tunings(plan, preset, seed, target, pre_trained)
        starred = train_networks(tunings, compute, workspace) if tunings else []
        networks = [*plain, *starred]
        scored = shard_split(plan.target, plan.scored_on, plan.shards, workspace)
        predictions = predict_split(networks, scored, plan.scored_on, VIEWS, compute, workspace)
        scope = scope_of(scored, plan.scored_on, VIEWS, preset, plan.digest)
        rows = _rows(plan.table, len(plain), len(starred), seed)
        return write_error_rates(rows, predictions, networks, scope, workspace, scored)


def _find_superset(plan: Preset, workspace: Path) -> None:
    """See that its files are there, before the hours that come first."""
    if plan.superset is None or not plan.num_pretrained:
        return
    try:
        choose_splits(plan.superset, ["train"], workspace)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the starred networks are pre-trained on {plan.superset.kind}, and its {error}; "
            f"put it there, or set num_pretrained to 0"
        ) from error


def _from_scratch(plan: Preset, preset: str, seed: int, target: TrainingSet) -> list[Training]:
    seeds = range(seed, seed + plan.num_networks)
    return [plan_training(f"{preset}-cnn-{n}", plan.network, _seeded(plan.training, n), target) for n in seeds]


def _pre_trainings(plan: Preset, preset: str, seed: int, superset: TrainingSet | None) -> list[Training]:
    """The starred networks have a sixth convolutional layer. [K12 §6]"""
    if superset is None:
        return []
    network = plan.network.model_copy(update={"sixth_conv": True, "bottleneck": plan.pre_training_bottleneck})
    seeds = range(seed, seed + plan.num_pretrained)
    return [plan_training(f"{preset}-pre-trained-{n}", network, _seeded(plan.pre_training, n), superset) for n in seeds]


def _fine_tunings(plan: Preset, preset: str, seed: int, target: TrainingSet, initial: list[Weights]) -> list[Training]:
    network = plan.network.model_copy(update={"sixth_conv": True})
    return [
        plan_training(f"{preset}-fine-tuned-{n}", network, _seeded(plan.fine_tuning, n), target, weights)
        for n, weights in enumerate(initial, start=seed)
    ]


def _rows(table: str, num_plain: int, num_starred: int, seed: int) -> list[RowPlan]:
    """The table's rows in the paper's order, then every network alone."""
    plain, everyone = tuple(range(num_plain)), tuple(range(num_plain + num_starred))
    rows = [(ONE_NETWORK.get(table, "1 CNN"), plain[:1])]
    if num_plain > 1:
        rows += [(f"{num_plain} CNNs", plain)]
    if num_starred:
        rows += [("1 CNN*", everyone[num_plain : num_plain + 1]), (f"{len(everyone)} CNNs*", everyone)]
    alone = [(f"CNN, seed {seed + n}", (n,)) for n in plain]
    alone += [(f"CNN*, seed {seed + n}", (num_plain + n,)) for n in range(num_starred)]
    return [
        *(RowPlan(table=table, model=model, members=members) for model, members in rows),
        *(RowPlan(table="members", model=model, members=members) for model, members in alone),
    ]


def _seeded(config: TrainConfig, seed: int) -> TrainConfig:
    return config.model_copy(update={"seed": seed})


if __name__ == "__main__":
    run(reproduce)
