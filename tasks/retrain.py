"""The steps of a retraining between its snapshot and its commit: what changed, what is trained, who is better.

Called by `flows.retrain`. A row of `retrainings.parquet` is filled step by step.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event

from base.errors import InputError
from data_shards.changes import compare_sets, overlap
from data_shards.datasets.dataset import Split
from data_shards.shard_set import ShardSet
from model.evaluation.predictions import open_predictions
from model.evaluation.schemas import Row
from model.network.config import NetworkConfig
from model.network.weights import read_info
from model.retraining.history import Champion, read_retrainings
from model.retraining.past import Start
from model.retraining.rendering import runs_as_markdown
from model.retraining.rules import Comparison, Rule, Wrong, compare, compare_over_seeds
from model.retraining.schemas import RETRAININGS, SCHEMA_VERSION
from model.retraining.scores import wrong_among
from model.training.config import TrainConfig
from tasks.champions import find_set, find_weights
from tasks.code import code_version
from tasks.compute import Compute
from tasks.job import Artifact, Weights
from tasks.jobs.predict import Views
from tasks.jobs.train import TrainJob
from tasks.predict import predict_split, predictions_file
from tasks.progress import run_log
from tasks.train import plan_training
from tasks.workspace import Workspace

MAX_SHOWN = 30
"""Runs in the artifact."""


class Data(NamedTuple):
    """The snapshot: what is trained on and what is scored."""

    train: Artifact
    val: Artifact
    """What a training measures its errors on, and by which `plateau` divides the rate."""
    evaluation: Artifact
    evaluated_on: Split


class Scores(NamedTuple):
    """What the evaluation set says of a challenger."""

    challenger: Weights
    """Of the networks that differ by seed, the one with the median error."""
    predictions: Artifact
    """Its own."""
    num_images: int
    """Of classes that the champion knows too."""
    wrong: int
    siblings_wrong: list[int]
    """Of each seed."""
    comparison: Comparison | None
    """None without a champion."""

    @property
    def columns(self) -> Row:
        """The columns of a run."""
        known: Row = {"challenger": self.challenger.digest, "num_eval": self.num_images, "challenger_wrong": self.wrong}
        known["siblings_wrong"] = self.siblings_wrong
        if self.comparison is None:
            return known
        found = self.comparison
        return known | {
            "champion_wrong": found.champion_wrong,
            "only_champion_wrong": found.pair.only_first_wrong,
            "only_challenger_wrong": found.pair.only_second_wrong,
            "difference": found.difference,
            "difference_low": found.interval.low,
            "difference_high": found.interval.high,
            "p_value": found.p_value,
        }


def begin(name: str, rule: Rule, margin: float) -> Row:
    """Return the row of a run that begins now."""
    now, context = datetime.now(UTC), FlowRunContext.get()
    run = None if context is None else context.flow_run
    due = None if run is None else run.expected_start_time
    return dict.fromkeys(RETRAININGS.names) | {
        "retraining_id": uuid4().hex[:12],
        "name": name,
        "scheduled_for": now if due is None else datetime.fromtimestamp(due.timestamp(), UTC),
        "started_at": now,
        "trigger": "schedule" if run is not None and run.auto_scheduled else "hand",
        "rule": rule,
        "margin": margin,
        "code_version": code_version(),
        "run_id": None if run is None else str(run.id),
        "schema_version": SCHEMA_VERSION,
    }


@task(task_run_name="compare the images")
def describe_data(data: Data, champion: Champion | None, workspace: Workspace) -> tuple[Row, float | None, list[str]]:
    """Return the columns that tell the images from the champion's, which fraction of those is gone, and images of both sets.

    Raises:
        InputError: the evaluation set has no labels, or the champion's training set is no longer there.
    """
    if not ShardSet.open(data.evaluation.path).labelled:
        raise InputError(f"the images of {data.evaluated_on} have no labels to compare networks by; evaluate on another split")
    shared = overlap(data.train.path, data.evaluation.path)
    columns: Row = {
        "data_version": data.train.digest,
        "eval_set": data.evaluation.digest,
        "num_train": data.train.counts["images"],
        "images_bad": data.train.counts["bad_images"],
        "overlap": len(shared),
    }
    if champion is None:
        return columns, None, shared
    found = compare_sets(find_set(champion.data_version, workspace).path, data.train.path)
    columns |= {f"images_{what}": getattr(found, what) for what in ("added", "removed", "relabelled")}
    columns |= {"classes_added": found.classes_added, "classes_removed": found.classes_removed}
    run_log().info(
        "since the champion's images: %s added, %s removed, %s relabelled; %s classes added, %s removed",
        *(f"{count:,}" for count in (found.added, found.removed, found.relabelled)),
        *(f"{len(classes):,}" for classes in (found.classes_added, found.classes_removed)),
    )
    return columns, found.share_removed, shared


def plan_challengers(
    name: str,
    recipe: str,
    network: NetworkConfig,
    trainings: Sequence[TrainConfig],
    data: Data,
    colours: Artifact,
    initial: Weights | None,
    compute: Compute,
) -> list[TrainJob]:
    """Return a job for each seed: from scratch, or from `initial` with the rows of its last layer for the classes it knows."""
    sets = {"train": data.train, "val": data.val, "colours": colours}
    if initial is not None:
        network = network.model_copy(update={"bottleneck": None})
    jobs = [plan_training(f"{name}-{one.seed}", recipe, network, one, sets, compute, initial) for one in trainings]
    return [job.model_copy(update={"keep_classes": None if initial is None else True}) for job in jobs]


def initial_weights(start: Start, champion: Champion | None, network: NetworkConfig, workspace: Workspace) -> Weights | None:
    """Return the weights that a warm start continues from; None if it starts from scratch.

    A champion of another size cannot be continued; this is said, and the challenger starts from scratch.

    Raises:
        InputError: the weights of the champion are no longer there.
    """
    if start == "scratch" or champion is None:
        return None
    weights = find_weights(champion.weights, champion.name, workspace)
    there = read_info(weights.path).network
    free = {name: getattr(there, name) for name in ("num_classes", "dropout", "bottleneck")}
    if there.bottleneck is None and network.model_copy(update=free) == there:
        return weights
    run_log().info("the champion is another network (%s); this challenger starts from scratch", there)
    return None


@task(task_run_name="score the challenger")
def score(
    challengers: Sequence[Weights],
    champion: Champion | None,
    rule: Rule,
    data: Data,
    views: Views,
    compute: Compute,
    workspace: Workspace,
) -> Scores:
    """Score the champion and the challengers on the evaluation set, on the images of the classes that both know.

    Raises:
        InputError: the evaluation set has no labels or no image of such a class, or weights are no longer there.
    """
    wnids = ShardSet.open(data.evaluation.path).wnids
    common = wnids if champion is None else [wnid for wnid in wnids if wnid in set(champion.wnids)]
    live = [] if champion is None else _networks(champion, rule, workspace)
    differ = champion is not None and champion.wnids != wnids
    files = predict_split(
        [*challengers, *([] if differ else live)], data.evaluation, data.evaluated_on, views, compute, workspace
    )
    files += (
        predict_split(live, data.evaluation, data.evaluated_on, views, compute, workspace, other_classes=True) if differ else []
    )
    wrong = [wrong_among(open_predictions(predictions_file(file)), common) for file in files]
    if not len(wrong[0]):
        raise InputError("the evaluation set has no image of a class that the champion knows; retrain under another name")
    ours, theirs = wrong[: len(challengers)], wrong[len(challengers) :]
    median = sorted(range(len(ours)), key=lambda place: ours[place].sum())[(len(ours) - 1) // 2]
    return Scores(
        challenger=challengers[median],
        predictions=files[median],
        num_images=len(wrong[0]),
        wrong=int(ours[median].sum()),
        siblings_wrong=[int(one.sum()) for one in ours],
        comparison=_compare(theirs, ours, median, rule) if theirs else None,
    )


def new_champion(row: Row, reason: str, live: Champion | None, scores: Scores) -> Champion:
    """Return the champion that a run makes of its challenger, behind the one that is `live`."""
    return Champion(
        name=row["name"],
        generation=1 if live is None else live.generation + 1,
        weights=scores.challenger.digest,
        wnids=read_info(scores.challenger.path).wnids,
        data_version=row["data_version"],
        eval_set=row["eval_set"],
        num_images=scores.num_images,
        top1_wrong=scores.wrong,
        since=datetime.now(UTC),
        cause="first" if live is None else "forced" if row["rule"] == "force" else "promoted",
        reason=reason,
        key=row["key"],
        vetoed=None,
        siblings=row["siblings"],
        retraining_id=row["retraining_id"],
        run_id=row["run_id"],
    )


def announce(row: Row, workspace: Workspace) -> None:
    """Show the runs of a name as an artifact and send an event; if the server does not take them, only say so."""
    try:
        shown = read_retrainings(workspace.tables, row["name"])[-MAX_SHOWN:]
        text = f"# {row['name']}: {row['decision']}\n\n{row['reason']}\n\n{runs_as_markdown(shown)}\n"
        create_markdown_artifact(text, key=f"retrain-{row['name']}", description=f"Retrainings of {row['name']}")
        payload = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        about = {"prefect.resource.id": f"alexnet.champion.{row['name']}", "prefect.resource.name": row["name"]}
        emit_event(f"alexnet.retraining.{row['decision']}", about, payload=payload)
    except Exception as error:
        run_log().warning("could not announce the decision (%s); it is in %s", error, workspace.tables)


def _networks(champion: Champion, rule: Rule, workspace: Workspace) -> list[Weights]:
    """The champion, and for a rule over seeds its siblings behind it."""
    others = [digest for digest in champion.siblings if digest != champion.weights] if rule == "superior-over-seeds" else []
    return [find_weights(digest, champion.name, workspace) for digest in (champion.weights, *others)]


def _compare(champions: Sequence[Wrong], challengers: Sequence[Wrong], median: int, rule: Rule) -> Comparison:
    if rule == "superior-over-seeds":
        return compare_over_seeds(champions, challengers, champions[0], challengers[median])
    return compare(champions[0], challengers[median])
