"""Differences between test and validation error of the same network, with their intervals."""

import pytest

from model.evaluation.gaps import gaps
from model.evaluation.published import error_rates
from model.evaluation.schemas import GAPS

TEST = {"split": "test"}


def measured_gaps(*rows):
    return [one for one in gaps(error_rates(None, rows)).to_pylist() if one["source"] == "measured"]


def test_the_papers_own_gaps_are_within_a_tenth_of_a_point():
    found = {(one["model"], one["rank"]): one for one in gaps(error_rates(None, [])).to_pylist()}
    assert set(found) == {("5 CNNs", 5), ("7 CNNs*", 5)}
    assert found["7 CNNs*", 5]["gap"] == pytest.approx(-0.001)
    assert all(one["within_published"] for one in found.values())


def test_a_measured_gap_is_test_less_validation_of_the_same_members(row):
    other = row(on=TEST, members=("other",), model="1 CNN")
    found = measured_gaps(row(), row(on=TEST, ranks=(9, 3, 1, 9)), row(model="1 CNN"), other)
    assert [(one["model"], one["rank"], one["val_error"], one["test_error"]) for one in found] == [
        ("5 CNNs", 1, 0.5, 0.75),
        ("5 CNNs", 5, 0.25, 0.5),
    ]
    assert found[0]["gap"] == 0.25
    assert found[0]["gap_low"] < 0 < 0.25 < found[0]["gap_high"]
    assert not found[0]["within_published"]
    assert gaps(error_rates(None, [row()])).schema == GAPS


@pytest.mark.parametrize(
    "other", [{"recipe": "code2012"}, {"seed": 1}, {"config": "other"}, {"on": {"preset": "tiny"}}], ids=str
)
def test_errors_of_different_settings_are_not_compared(row, other):
    on = {**other.get("on", {}), **TEST}
    assert not measured_gaps(row(), row(**{**other, "on": on}))


@pytest.mark.parametrize("name", ["labels", "classes"])
def test_errors_with_other_labels_or_over_some_classes_are_not_compared(row, name):
    assert not measured_gaps(row(on={name: "x"}), row(on={name: "x", **TEST}))
    assert len(measured_gaps(row(), row(on=TEST), row(on={name: "x", **TEST}))) == 2


def test_an_unlabelled_test_set_has_no_gap(row):
    assert not measured_gaps(row(), row(on=TEST, labelled=False))
