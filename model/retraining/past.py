"""What earlier runs say about a run to come: whether there is anything to do, how it starts, how often its images were seen.

Called by `tasks.retrain`. Runs are rows of `retrainings.parquet` of one name, in the order in which they ended.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from model.retraining.history import Champion, Row
from model.retraining.rules import DISCORDANT, Rule

Start = Literal["warm", "scratch"]

DECIDED = ("promoted", "kept", "undecided")
"""Decisions that followed a training."""


def superseded(runs: Sequence[Row], scheduled_for: datetime, start: Start) -> str | None:
    """Return why a run that comes late has nothing to add: a later one has ended since; None if that is not so.

    For a run from scratch, say the weekly one, only another one from scratch counts.
    """
    alike = [run for run in runs if start == "warm" or run["start"] == "scratch"]
    begun = [run["started_at"] for run in alike if run["decision"] != "failed"]
    if not begun or scheduled_for > max(begun):
        return None
    return f"superseded: it was due at {_time(scheduled_for)}, and a run that began at {_time(max(begun))} has ended since"


def nothing_new(
    runs: Sequence[Row], champions: Sequence[Champion], key: str, code: str, rule: Rule, retrain_on: Literal["data", "code"]
) -> str | None:
    """Return why a key is not trained again; None if it is to be trained.

    A key that a rollback has vetoed is not, and neither is one that was decided, whoever is the champion by now. With
    `retrain_on` `code`, one that was decided by other code is trained again. `force` trains all but the champion's own.
    """
    if rule == "force":
        live = bool(champions) and champions[-1].key == key
        return f"unchanged: generation {champions[-1].generation} was made from the same images and settings" if live else None
    vetoes = [one for one in champions if one.vetoed == key]
    if vetoes:
        return f"unchanged: vetoed by the rollback of {_time(vetoes[-1].since)} ({vetoes[-1].reason})"
    decided = [run for run in runs if run["key"] == key and run["decision"] in DECIDED]
    if not decided:
        return None
    last = decided[-1]
    same_code = any(run["code"] == code for run in decided)
    if retrain_on == "code" and not same_code:
        return None
    since = f"the same images and settings were {_done(last['decision'])} at {_time(last['finished_at'])}"
    other = f"; only the code is another since commit {last['code_version']}, and retrain_on code would train them again"
    return f"unchanged: {since}{'' if same_code else other}"


def how_to_start(runs: Sequence[Row], start: Start, scratch_every: int) -> Start:
    """Return how the next challenger starts: as asked, but from scratch if none of the last `scratch_every` − 1 did."""
    starts = [run["start"] for run in runs if run["decision"] in DECIDED]
    since = next((number for number, one in enumerate(reversed(starts)) if one == "scratch"), len(starts))
    return "scratch" if start == "scratch" or since + 1 >= scratch_every else "warm"


def num_looks(runs: Sequence[Row], eval_set: str) -> int:
    """Return how often a champion and a challenger were compared on an evaluation set so far."""
    return sum(run["eval_set"] == eval_set and run["p_value"] is not None for run in runs)


def discordant_share(runs: Sequence[Row]) -> float:
    """Return the share of images that only one network had wrong in the last comparison, a usual one if there was none."""
    for run in reversed(runs):
        if run["only_champion_wrong"] is not None and run["num_eval"]:
            return float((run["only_champion_wrong"] + run["only_challenger_wrong"]) / run["num_eval"])
    return DISCORDANT


def _done(decision: str) -> str:
    return {"promoted": "promoted", "kept": "not promoted", "undecided": "left undecided"}[decision]


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
