"""Turn answers into the measured rows of the tables: error rates, comparisons of pairs, errors per class.

Called by `model.evaluation.tables`. docs/tables.md says what each column holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from model.evaluation.answers import Answers
from model.evaluation.by_class import errors_by_class
from model.evaluation.comparisons import NUM_RESAMPLES, bootstrap_interval, count_discordant, mcnemar_p
from model.evaluation.error_rates import NUM_BEST, ErrorCounts
from model.evaluation.hierarchical import CostMatrix, total_costs
from model.evaluation.intervals import wilson_interval
from model.evaluation.schemas import ERROR_RATES, SCHEMA_VERSION, Row


@dataclass(frozen=True)
class Evaluation:
    """What all rows of one evaluation share: the images, and the program that wrote the rows."""

    dataset: str
    split: str
    views: int
    preset: str
    shards: str
    """Digest of the shard set that was scored."""
    code_version: str
    """Git commit of the program that writes the rows."""
    run_id: str | None
    created_at: datetime
    labels: str | None = None
    """Labels other than the set's own."""
    classes: str | None = None
    """The list of classes that the ranking was restricted to."""

    @property
    def columns(self) -> Row:
        """The columns that all rows of the evaluation share."""
        return {**vars(self), "schema_version": SCHEMA_VERSION}


@dataclass(frozen=True)
class Measured:
    """One network or ensemble of one row, and its answers."""

    table: str
    model: str
    members: tuple[str, ...]
    """SHA-256 of each weights file."""
    member_weights: tuple[float, ...]
    """One per member, summing to one."""
    selected_on: str | None
    """The split on which the member weights were chosen; None if they are equal."""
    recipe: str | None
    """Name of the training recipe, see `join_recipes`; None if it is unknown."""
    seed: int | None
    """Seed of the first member's training; None if it is unknown."""
    config: str
    """Digest of all settings that change the numbers, except the split and paths."""
    weights_code_versions: tuple[str | None, ...]
    """Git commit that trained each member; None if it is unknown."""
    answers: Answers

    @property
    def ensemble(self) -> tuple[tuple[str, float], ...]:
        """Members and member weights, sorted: equal for the same ensemble, under any name, with its members in any order."""
        return tuple(sorted(zip(self.members, self.member_weights, strict=True)))

    @property
    def columns(self) -> Row:
        """The columns that depend on the members."""
        return {
            "model": self.model,
            "members": list(self.members),
            "member_weights": list(self.member_weights),
            "recipe": self.recipe,
            "seed": self.seed,
            "config": self.config,
            "weights_code_versions": list(self.weights_code_versions),
        }


def join_recipes(names: Sequence[str | None]) -> str | None:
    """Return `paper` for members that share a recipe, `paper, code2012` for others; None if all are unknown."""
    if all(name is None for name in names):
        return None
    return ", ".join(dict.fromkeys(name or "unknown" for name in names))


def measured_row(measured: Measured, evaluation: Evaluation, cost_matrix: CostMatrix | None = None) -> Row:
    """Return a row of `error_rates`: whole counts over the split and the rates from them. Without labels they are null.

    `cost_matrix`, by class index, adds the hierarchical cost.
    """
    counts = measured.answers.count_errors()
    row: Row = dict.fromkeys(ERROR_RATES.names) | {
        "table": measured.table,
        "source": "measured",
        "selected_on": measured.selected_on,
        "num_images": len(measured.answers.image_ids),
        "log_loss": measured.answers.log_loss(),
        **measured.columns,
        **evaluation.columns,
    }
    return row if counts is None else {**row, **rate_columns(counts), **_costs(measured.answers, cost_matrix)}


def compared_rows(measured: Sequence[Measured], evaluation: Evaluation) -> list[Row]:
    """Return a row of `comparisons` for each pair and rank. Each ensemble is compared once; without labels there is no row."""
    pairs = combinations(_distinct(measured), 2)
    return [{**_compared(*pair, rank), **evaluation.columns} for pair in pairs for rank in (1, NUM_BEST)]


def per_class_rows(measured: Sequence[Measured], evaluation: Evaluation) -> list[Row]:
    """Return a row of `per_class` for each class and model. Each ensemble is counted once; without labels there is no row."""
    return [{**row, **evaluation.columns} for one in _distinct(measured) for row in _per_class(one)]


def rate_columns(counts: ErrorCounts) -> Row:
    """Return the columns that follow from whole counts: rates and their intervals."""
    top1 = wilson_interval(counts.top1_wrong, counts.num_images)
    top5 = wilson_interval(counts.top5_wrong, counts.num_images)
    return {
        "top1_wrong": counts.top1_wrong,
        "top5_wrong": counts.top5_wrong,
        "top1_error": counts.top1_error,
        "top5_error": counts.top5_error,
        "top1_low": top1.low,
        "top1_high": top1.high,
        "top5_low": top5.low,
        "top5_high": top5.high,
    }


def _distinct(measured: Sequence[Measured]) -> list[Measured]:
    """Return those that have labels; each ensemble once, with its first name."""
    first = {one.ensemble: one for one in reversed(measured) if one.answers.labels is not None}
    return [one for one in measured if first.get(one.ensemble) is one]


def _costs(answers: Answers, cost_matrix: CostMatrix | None) -> Row:
    if cost_matrix is None or answers.labels is None:
        return {}
    totals = total_costs(answers.best, answers.labels.class_indices, cost_matrix)
    return {"top1_cost": int(totals[0]) / len(answers.best), "top5_cost": int(totals[-1]) / len(answers.best)}


def _compared(first: Measured, second: Measured, rank: int) -> Row:
    wrong = [_wrong(one, rank) for one in (first, second)]
    pair = count_discordant(*wrong)
    interval = bootstrap_interval(pair)
    return {
        "rank": rank,
        "first": first.model,
        "second": second.model,
        "first_members": list(first.members),
        "second_members": list(second.members),
        "num_images": pair.num_images,
        "first_wrong": int(wrong[0].sum()),
        "second_wrong": int(wrong[1].sum()),
        "only_first_wrong": pair.only_first_wrong,
        "only_second_wrong": pair.only_second_wrong,
        "difference": pair.difference,
        "difference_low": interval.low,
        "difference_high": interval.high,
        "p_value": mcnemar_p(pair),
        "num_resamples": NUM_RESAMPLES,
        "recipe": join_recipes((first.recipe, second.recipe)),
        "seed": first.seed if first.seed == second.seed else None,
        "config": sha256(f"{first.config} {second.config}".encode()).hexdigest(),
        "weights_code_versions": [*first.weights_code_versions, *second.weights_code_versions],
    }


def _wrong(measured: Measured, rank: int) -> NDArray[np.bool_]:
    labels = measured.answers.labels
    if labels is None:
        raise ValueError(f"{measured.model} was scored on images without labels; no answer is right or wrong there")
    return labels.ranks > rank


def _per_class(measured: Measured) -> Iterator[Row]:
    labels = measured.answers.labels
    for errors in errors_by_class(measured.answers, labels) if labels is not None else ():
        seen = errors.num_images or None  # a class without images has no rate
        yield {
            **measured.columns,
            **errors._asdict(),
            "top1_error": errors.top1_wrong / seen if seen else None,
            "top5_error": errors.top5_wrong / seen if seen else None,
        }
