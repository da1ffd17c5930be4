"""Images that keep arriving to a champion that only a better network replaces: `python -m flows.retrain --help`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import BaseModel, ConfigDict, Field

from base.errors import InputError, sentence_of
from data_shards.datasets.dataset import Split
from flows.command_line import run
from flows.presets import Preset, PresetName, load_preset
from model.evaluation.schemas import Row
from model.retraining.history import Champion, read_champions, read_retrainings
from model.retraining.limits import Limits, held
from model.retraining.past import Start, discordant_share, how_to_start, nothing_new, num_looks, superseded
from model.retraining.rules import Rule, decide, default_margin, first_champion, smallest_difference
from model.training.config import Precision, TrainConfig
from model.training.recipes import RecipeName
from tasks.champions import NAME, claimed, commit, restore
from tasks.code import code_digest
from tasks.colours import measure_colours
from tasks.compute import choose_compute
from tasks.job import digest_of
from tasks.jobs.predict import Views
from tasks.jobs.train import Layout
from tasks.progress import run_log
from tasks.retrain import Data, announce, begin, describe_data, initial_weights, new_champion, plan_challengers, score
from tasks.shard import shard_split
from tasks.tabulate import RowPlan, write_error_rates
from tasks.train import train_networks
from tasks.workspace import DEFAULT_WORKSPACE, Workspace, locked

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

SEEDS_OF_A_RULE = {"superior-over-seeds": 3}
"""(ours) Networks of a challenger; one for every other rule. The fewest that have a spread worth the name."""


class RetrainRecord(BaseModel):
    """What a run has decided, and where the history is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: str
    reason: str
    champion: str | None
    tables: list[Path]

    def __str__(self) -> str:
        champion = [] if self.champion is None else [f"champion: {self.champion}"]
        return "\n".join([f"{self.decision}: {self.reason}", *champion, "", *map(str, self.tables)])


class Outcome(NamedTuple):
    """What a run ends with."""

    decision: str
    """promoted, kept, undecided, held, skipped or failed."""
    reason: str
    champion: Champion | None = None
    """The new one."""


@dataclass(frozen=True)
class Order:
    """What a run was asked for, checked."""

    name: str
    preset: PresetName
    plan: Preset
    evaluated_on: Split
    rule: Rule
    margin: float
    reason: str | None
    start: Start
    scratch_every: int
    retrain_on: Literal["data", "code"]
    seeds: range
    limits: Limits
    views: Views
    device: str
    layout: Layout | None


@flow(flow_run_name="retrain {name}")
def retrain(
    name: Annotated[str, Field(pattern=NAME)] = "folder",
    preset: PresetName = "folder",
    source: Path | None = None,
    evaluate_on: Literal["val", "test"] = "val",
    rule: Rule = "superior",
    margin: Share | None = None,
    reason: str | None = None,
    start: Start = "warm",
    scratch_every: Positive = 7,
    retrain_on: Literal["data", "code"] = "data",
    seed: Count = 0,
    num_seeds: Annotated[int, Field(gt=0, le=20)] | None = None,
    max_removed: Share = 0.05,
    max_classes_removed: Count = 0,
    max_bad: Share = 0.01,
    max_overlap: Count = 0,
    recipe: RecipeName | None = None,
    epochs: Positive | None = None,
    batch_size: Positive | None = None,
    learning_rate: Annotated[float, Field(gt=0)] | None = None,
    width: Annotated[float, Field(gt=0, le=1)] | None = None,
    precision: Precision | None = None,
    views: Views = 10,
    device: str = "auto",
    layout: Layout | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> State[RetrainRecord]:
    """Train a challenger if the images have changed, compare it with the champion, and promote it if the rule says so.

    Args:
        name: Of the champion: small letters, digits and hyphens. Each has its own history.
        preset: How networks are trained, and what the images come in: folder, and small-folder for a network that learns in
            minutes, read folders of class folders.
        source: Folder or archive that holds the images; it is read again in every run.
        evaluate_on: The split on which champion and challenger are compared: val, or test if its labels are public.
        rule: superior (McNemar's test at 5 %), superior-over-seeds (several networks of each, so that a lucky seed does not
            count), not-worse (the 95 % interval is above the margin), never, or force with a reason.
        margin: Fraction of the images by which the challenger may be worse (not-worse; default 0.01) or has to be better
            (superior; default 0).
        reason: Why a challenger is forced; it is written into the history.
        start: warm to continue from the champion, or scratch. The first one starts from scratch.
        scratch_every: One in so many challengers starts from scratch anyway.
        retrain_on: code to train unchanged images again if the code of training has changed.
        seed: Seed of the first network; the others count up from it.
        num_seeds: Networks per challenger, of which the one with the median error stands for all. Default: 1, or 3 over seeds.
        max_removed: Fraction of the champion's training images that may be gone before a person has to look.
        max_classes_removed: Number of classes that may be gone.
        max_bad: Fraction of the training images that may be impossible to decode.
        max_overlap: Number of training images that may be in the evaluation set too.
        recipe: paper (what its text says), code2012 or code2010 (what its authors ran) or dexp (an unattended schedule),
            epochs included. Default: the preset's.
        epochs: Number of epochs. Default: the preset's.
        batch_size: Images per step. Default: the preset's.
        learning_rate: Initial rate of the weights. Default: the preset's.
        width: Share of each layer's kernels. Default: the preset's.
        precision: fp32, tf32 (on NVIDIA GPUs) or bf16, faster. Default: the preset's.
        views: 10 for the corners, the centre and their reflections, 1 for the centre.
        device: auto, cpu, cuda, or several such as cuda:0,cuda:1.
        layout: towers, one-piece or replicas. Default: what suits the devices.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    with claimed(name, workspace) as is_free:
        row = begin(name, rule, default_margin(rule, margin))
        if not is_free:
            outcome = Outcome("skipped", f"another run of {name} is at work")
            return _announced(row, outcome, Workspace(path=workspace.expanduser().absolute()))
        with locked(workspace, reuse, wait=run_log().info) as made_in:
            try:
                changes = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "precision": precision}
                shards, size = {"bad_images": "report"}, {"width": width}
                order = Order(
                    name=name,
                    preset=preset,
                    plan=load_preset(
                        preset, source, recipe, shards=shards, network=size, training=changes, fine_tuning=changes
                    ),
                    evaluated_on=evaluate_on,
                    rule=rule,
                    margin=row["margin"],
                    reason=reason,
                    start=start,
                    scratch_every=scratch_every,
                    retrain_on=retrain_on,
                    seeds=range(seed, seed + (num_seeds or SEEDS_OF_A_RULE.get(rule, 1))),
                    limits=Limits(
                        max_removed=max_removed,
                        max_classes_removed=max_classes_removed,
                        max_bad=max_bad,
                        max_overlap=max_overlap,
                    ),
                    views=views,
                    device=device,
                    layout=layout,
                )
                outcome = _take_steps(order, row, made_in)
            except Exception as error:
                said = sentence_of(error) or f"{type(error).__name__}: {error}"
                _end(row, Outcome("failed", said.splitlines()[0]), made_in)
                raise
            return _end(row, outcome, made_in)


def _take_steps(order: Order, row: Row, workspace: Workspace) -> Outcome:
    """Take all steps up to the decision, and note in `row` what becomes known."""
    _check_rule(order)
    restore(order.name, workspace)
    champions, runs = read_champions(workspace.tables, order.name), read_retrainings(workspace.tables, order.name)
    live = champions[-1] if champions else None
    row.update(champion=live and live.weights, generation=live and live.generation)
    if why := superseded(runs, row["scheduled_for"], order.start):
        return Outcome("skipped", why)
    data = _snapshot(order, workspace)
    columns, share_removed, shared = describe_data(data, live, workspace)
    code, key = code_digest(["tasks.workers.train"]), _key(order, data)
    row.update(columns, key=key, code=code, seed=order.seeds[0], recipe=order.plan.recipe)
    if why := nothing_new(runs, champions, key, code, order.rule, order.retrain_on):
        return Outcome("skipped", why)
    if why := held(row, share_removed, shared, order.limits):
        return Outcome("held", why)
    return _challenge(order, row, data, live, runs, workspace)


def _check_rule(order: Order) -> None:
    """Refuse a rule that lacks what it needs.

    Raises:
        InputError: force without a reason, a reason without force, or a single seed over seeds.
    """
    if order.rule == "force" and order.reason is None:
        raise InputError("the rule force needs a reason, which is written into the history; give one")
    if order.rule != "force" and order.reason is not None:
        raise InputError(f"the reason {order.reason!r} goes with the rule force, found {order.rule}; leave it out, or force")
    if order.rule == "superior-over-seeds" and len(order.seeds) < 2:
        raise InputError("one network per challenger says nothing of the spread of seeds; set num_seeds to two or more")


def _challenge(order: Order, row: Row, data: Data, live: Champion | None, runs: list[Row], workspace: Workspace) -> Outcome:
    """Train, score and decide."""
    plan, compute = order.plan, choose_compute(order.device, order.plan.threads_per_network, order.layout)
    _say_what_can_be_decided(data, live, runs)
    initial = initial_weights(how_to_start(runs, order.start, order.scratch_every), live, plan.network, workspace)
    trainings = [_seeded(plan.training if initial is None else plan.fine_tuning, seed) for seed in order.seeds]
    colours = measure_colours(data.train, workspace)
    jobs = plan_challengers(order.name, plan.recipe, plan.network, trainings, data, colours, initial, compute)
    networks = train_networks(jobs, compute, workspace)
    scores = score(networks, live, order.rule, data, order.views, compute, workspace)
    row.update(
        scores.columns,
        start="scratch" if initial is None else "warm",
        siblings=[one.digest for one in networks],
        config=digest_of({"training": jobs[0].settings, "views": order.views}),
        looks=None if live is None else num_looks(runs, data.evaluation.digest) + 1,
    )
    if scores.comparison is None:
        verdict = first_champion(order.rule, scores.wrong, scores.num_images)
    else:
        verdict = decide(order.rule, scores.comparison, order.margin, order.reason)
    if verdict.decision != "promoted":
        return Outcome(*verdict)
    champion = new_champion(row, verdict.reason, live, scores)
    row.update(generation=champion.generation)
    plans = [RowPlan(table="evaluation", model=f"{order.name}, generation {champion.generation}", members=(0,))]
    measured = [scores.predictions], [scores.challenger], data.evaluation, order.evaluated_on, order.views
    write_error_rates(plans, *measured, order.preset, workspace)
    return Outcome(*verdict, champion)


def _snapshot(order: Order, workspace: Workspace) -> Data:
    """Write the images as shards as they are now, or find them."""
    source, there = order.plan.target, order.plan.target.open(workspace.sources).splits()
    validated_on: Split = "val" if "val" in there else order.evaluated_on
    wanted: list[Split] = ["train", validated_on, order.evaluated_on]
    sets = {split: shard_split(source, split, order.plan.shards, workspace) for split in dict.fromkeys(wanted)}
    train, val, evaluation = (sets[split] for split in wanted)
    return Data(train, val, evaluation, order.evaluated_on)


def _key(order: Order, data: Data) -> str:
    """Return a digest of what a retraining is made from. Neither the champion nor the code is part of it."""
    plan = order.plan
    return digest_of(
        {
            "data_version": data.train.digest,
            "eval_set": data.evaluation.digest,
            "network": plan.network.model_dump(mode="json"),
            "training": plan.training.model_dump(mode="json"),
            "fine_tuning": plan.fine_tuning.model_dump(mode="json") if order.start == "warm" else None,
            "start": order.start,
            "seeds": list(order.seeds),
        }
    )


def _say_what_can_be_decided(data: Data, live: Champion | None, runs: list[Row]) -> None:
    num_images, seen = data.evaluation.counts["images"], num_looks(runs, data.evaluation.digest)
    least = smallest_difference(num_images, discordant_share(runs))
    finds = f"finds differences of {100 * least:.1f} points or more" if least is not None else "can decide nothing"
    if live is not None:
        run_log().info(
            "McNemar's test on %s images %s; this is look %s at this evaluation set", f"{num_images:,}", finds, f"{seen + 1:,}"
        )


def _seeded(config: TrainConfig, seed: int) -> TrainConfig:
    return config.model_copy(update={"seed": seed})


def _end(row: Row, outcome: Outcome, workspace: Workspace) -> State[RetrainRecord]:
    """Commit an outcome, announce it, and return the state of the run."""
    row.update(decision=outcome.decision, reason=outcome.reason, finished_at=datetime.now(UTC))
    commit(row, outcome.champion, workspace)
    return _announced(row, outcome, workspace)


def _announced(row: Row, outcome: Outcome, workspace: Workspace) -> State[RetrainRecord]:
    announce(row | {"decision": outcome.decision, "reason": outcome.reason}, workspace)
    live = read_champions(workspace.tables, row["name"])[-1:]
    record = RetrainRecord(
        decision=outcome.decision,
        reason=outcome.reason,
        champion=f"generation {live[0].generation}, {workspace.path / 'champions' / row['name']}" if live else None,
        tables=[workspace.tables / "retrainings.parquet", workspace.tables / "champions.parquet"],
    )
    return Completed(name=outcome.decision.capitalize(), message=outcome.reason, data=record)


if __name__ == "__main__":
    run(retrain)
