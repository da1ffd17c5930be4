"""Measured rows: whole counts and rates, pairs compared, classes counted, and where each number comes from."""

from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.published import error_rates
from model.evaluation.rows import compared_rows, join_recipes, measured_row, per_class_rows
from model.evaluation.schemas import COMPARISONS, ERROR_RATES, PER_CLASS


def test_a_measured_row_has_whole_counts(row):
    one = row()
    assert (one["num_images"], one["top1_wrong"], one["top5_wrong"]) == (4, 2, 1)
    assert (one["top1_error"], one["top5_error"]) == (2 / 4, 1 / 4)
    assert one["top1_low"] < 0.5 < one["top1_high"]
    assert one["log_loss"] == pytest.approx(-np.log([0.5, 0.25, 0.5, 0.125]).mean())
    assert one["member_weights"] == [0.5, 0.5]
    assert list(one) == ERROR_RATES.names


def test_without_labels_what_depends_on_them_is_null(row):
    one = row(labelled=False)
    assert one["num_images"] == 4
    depend = [name for name in ERROR_RATES.names if name.startswith("top") or name == "log_loss"]
    assert [one[name] for name in depend] == [None] * len(depend)


def test_a_cost_matrix_adds_the_hierarchical_cost(measured, evaluation, row):
    matrix = np.array([[0, 1, 3, 3], [1, 0, 3, 3], [3, 3, 0, 2], [3, 3, 2, 0]], np.uint8)
    one = measured_row(measured(), evaluation, matrix)
    assert (one["top1_cost"], one["top5_cost"]) == ((0 + 3 + 0 + 3) / 4, (0 + 0 + 0 + 2) / 4)
    assert row()["top1_cost"] is None


def test_every_row_follows_the_schema(measured, evaluation, row):
    rates = error_rates(None, [row()])
    assert rates.schema == ERROR_RATES
    pair = [measured(), measured(members=("w3",))]
    assert pa.Table.from_pylist(compared_rows(pair, evaluation), schema=COMPARISONS).num_rows == 2
    assert pa.Table.from_pylist(per_class_rows([measured()], evaluation), schema=PER_CLASS).num_rows == 4


def test_a_row_names_what_made_it(row):
    one = row(recipe="code2012", seed=3, config="c", on={"preset": "folder", "labels": "real", "classes": "imagenet-a"})
    assert [one[name] for name in ("preset", "recipe", "seed", "config")] == ["folder", "code2012", 3, "c"]
    assert [one[name] for name in ("labels", "classes")] == ["real", "imagenet-a"]
    assert (one["code_version"], one["weights_code_versions"]) == ("abc123", ["commit of w1", "commit of w2"])
    assert (one["shards"], one["schema_version"]) == ("shards-digest", 3)


@pytest.mark.parametrize(
    ("names", "joined"),
    [
        (["paper", "paper"], "paper"),
        (["paper", "code2012", "paper"], "paper, code2012"),
        (["paper", None], "paper, unknown"),
        ([None, None], None),
    ],
)
def test_members_of_different_recipes_are_named_together(names, joined):
    assert join_recipes(names) == joined


def test_a_comparison_names_what_made_both(measured, evaluation):
    first, second = measured(members=("a",), recipe="paper", seed=0), measured(members=("b",), recipe="code2012", seed=1)
    one = compared_rows([first, second], evaluation)[0]
    assert (one["recipe"], one["seed"], one["preset"]) == ("paper, code2012", None, "demo")
    assert one["weights_code_versions"] == ["commit of a", "commit of b"]
    assert one["config"] == sha256(b"config-digest config-digest").hexdigest()
    same = compared_rows([first, measured(members=("b",))], evaluation)[0]
    assert (same["recipe"], same["seed"]) == ("paper", 0)


@pytest.mark.parametrize("changed", ["first", "second"])
def test_the_config_of_a_comparison_depends_on_both(measured, evaluation, changed):
    def config(**configs):
        both = [measured(members=(name,), config=configs.get(name, "c")) for name in ("first", "second")]
        return compared_rows(both, evaluation)[0]["config"]

    assert config(**{changed: "other"}) != config()


def test_classes_are_counted_with_what_made_them(measured, evaluation):
    one = per_class_rows([measured(recipe="code2012", seed=3)], evaluation)[0]
    assert (one["recipe"], one["seed"], one["config"], one["preset"]) == ("code2012", 3, "config-digest", "demo")
    assert one["weights_code_versions"] == ["commit of w1", "commit of w2"]


def test_pairs_are_compared_at_rank_one_and_five(measured, evaluation):
    first, second = measured("1 CNN", ("w1",)), measured("5 CNNs", ranks=(1, 1, 1, 9))
    rows = compared_rows([first, second], evaluation)
    assert [(one["first"], one["second"], one["rank"]) for one in rows] == [("1 CNN", "5 CNNs", 1), ("1 CNN", "5 CNNs", 5)]
    one = rows[0]
    assert (one["num_images"], one["first_wrong"], one["second_wrong"]) == (4, 2, 1)
    assert (one["only_first_wrong"], one["only_second_wrong"], one["difference"], one["p_value"]) == (1, 0, 0.25, 1.0)
    assert one["difference_low"] <= 0.25 <= one["difference_high"]


def test_what_is_measured_under_two_names_is_compared_once(measured, evaluation):
    three = [measured("1 CNN", ("w1",)), measured("CNN, seed 0", ("w1",)), measured("CNN, seed 1", ("w2",))]
    assert [(one["first"], one["second"]) for one in compared_rows(three, evaluation)[::2]] == [("1 CNN", "CNN, seed 1")]
    assert {one["model"] for one in per_class_rows(three, evaluation)} == {"1 CNN", "CNN, seed 1"}


def test_without_labels_nothing_is_compared(measured, evaluation):
    two = [measured(members=(name,), labelled=False) for name in ("a", "b")]
    assert compared_rows(two, evaluation) == per_class_rows(two, evaluation) == []


def test_a_class_without_images_has_no_rate(measured, evaluation):
    rows = per_class_rows([measured()], evaluation)
    assert [(one["wnid"], one["num_images"], one["top1_wrong"], one["top1_error"]) for one in rows] == [
        ("n0", 1, 0, 0.0),
        ("n1", 2, 1, 0.5),
        ("n2", 1, 1, 1.0),
        ("n3", 0, 0, None),
    ]
    assert rows[1]["confused_wnids"] == ["n3"]
