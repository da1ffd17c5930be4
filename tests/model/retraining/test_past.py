"""What earlier runs say about a run to come."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from model.retraining.history import Champion
from model.retraining.past import discordant_share, how_to_start, nothing_new, num_looks, superseded
from model.retraining.schemas import RETRAININGS

DAY = datetime(2026, 5, 1, 3, tzinfo=UTC)


def run(decision="kept", day=0, **columns):
    times = {"started_at": DAY + timedelta(days=day), "finished_at": DAY + timedelta(days=day, hours=2)}
    made = {"key": "k", "code": "c", "start": "warm", "code_version": "0a1b2c"} if decision != "skipped" else {}
    return dict.fromkeys(RETRAININGS.names) | times | made | {"decision": decision, **columns}


def champion(key="k", vetoed=None):
    about = {"name": "n", "generation": 3, "weights": "w", "wnids": [], "data_version": "d", "eval_set": "e", "num_images": 1}
    about |= {
        "top1_wrong": 0,
        "since": DAY,
        "cause": "promoted",
        "reason": "labels of May",
        "siblings": [],
        "retraining_id": "r",
    }
    return Champion(**about, key=key, vetoed=vetoed, run_id=None)


@pytest.mark.parametrize(
    ("runs", "due", "start", "is_superseded"),
    [
        ([], 0, "warm", False),
        ([run(day=0)], 1, "warm", False),
        ([run(day=3)], 1, "warm", True),
        ([run(day=3)], 3, "warm", True),
        ([run("skipped", day=3)], 2, "warm", True),
        ([run("held", day=3)], 2, "warm", True),
        ([run("failed", day=3)], 2, "warm", False),  # the next one may succeed
        ([run(day=3, start="scratch")], 2, "warm", True),
        ([run(day=3)], 2, "scratch", False),  # the late weekly run after a night
        ([run("skipped", day=3)], 2, "scratch", False),
        ([run(day=3, start="scratch"), run(day=4)], 2, "scratch", True),
        ([run(day=1, start="scratch"), run(day=3)], 2, "scratch", False),
    ],
)
def test_a_late_night_is_superseded_by_a_run_that_began_after_it_was_due(runs, due, start, is_superseded):
    why = superseded(runs, DAY + timedelta(days=due), start)
    assert (why is not None) == is_superseded
    assert why is None or why.startswith(f"superseded: it was due at 2026-05-0{due + 1} 03:00 UTC")


@pytest.mark.parametrize(
    ("runs", "champions", "rule", "retrain_on", "why"),
    [
        ([], [], "superior", "data", None),
        ([run()], [], "superior", "data", "unchanged: the same images and settings were not promoted at 2026-05-01 05:00 UTC"),
        ([run("promoted")], [], "superior", "data", "were promoted at"),
        ([run("undecided")], [], "never", "data", "were left undecided at"),
        ([run("failed")], [], "superior", "data", None),
        ([run("held")], [], "superior", "data", None),
        ([run(key="other")], [], "superior", "data", None),
        ([run(code="old")], [], "superior", "data", "only the code is another since commit 0a1b2c"),
        ([run(code="old")], [], "superior", "code", None),
        ([run(code="old"), run()], [], "superior", "code", "were not promoted at"),
        ([run("promoted")], [champion(), champion("old", vetoed="k")], "superior", "data", r"vetoed by .* \(labels of May\)"),
        ([run(code="old")], [champion("old", vetoed="k")], "superior", "code", "vetoed by the rollback of 2026-05-01 03:00"),
        ([run()], [champion("other")], "force", "data", None),
        ([run()], [champion("old", vetoed="k")], "force", "data", None),
        ([run("promoted")], [champion()], "force", "data", "generation 3 was made from the same images"),
    ],
)
def test_a_key_is_trained_once(runs, champions, rule, retrain_on, why):
    found = nothing_new(runs, champions, "k", "c", rule, retrain_on)
    assert found is None if why is None else re.search(why, found)


def starts(*names):
    return [run(start=name) for name in names]


@pytest.mark.parametrize(
    ("runs", "start", "scratch_every", "expected"),
    [
        ([], "scratch", 7, "scratch"),
        (starts("scratch"), "warm", 3, "warm"),
        (starts("scratch", "warm"), "warm", 3, "warm"),
        (starts("scratch", "warm", "warm"), "warm", 3, "scratch"),
        (starts("scratch", "warm", "warm", "scratch"), "warm", 3, "warm"),
        (starts("scratch"), "warm", 1, "scratch"),
        ([*starts("scratch", "warm"), run("skipped"), run("held")], "warm", 3, "warm"),
    ],
)
def test_one_in_so_many_challengers_starts_from_scratch(runs, start, scratch_every, expected):
    assert how_to_start(runs, start, scratch_every) == expected


def test_looks_at_an_evaluation_set_are_counted():
    runs = [
        run(eval_set="e", p_value=0.5),
        run(eval_set="e"),
        run(eval_set="other", p_value=0.5),
        run(eval_set="e", p_value=1.0),
    ]
    assert (num_looks(runs, "e"), num_looks([], "e")) == (2, 0)


def test_the_share_of_discordant_images_is_that_of_the_last_comparison():
    runs = [run(only_champion_wrong=10, only_challenger_wrong=20, num_eval=100), run("skipped")]
    assert discordant_share(runs) == 0.3
    assert discordant_share([]) == 0.15
