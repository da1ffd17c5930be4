"""The latest row of each measurement, and the rows of the paper's tables."""

import pytest

from model.evaluation.published import error_rates, published_rows
from model.evaluation.selection import SAME_MEASUREMENT, latest, select


def measured_rows(table):
    return [one for one in table.to_pylist() if one["source"] == "measured"]


def test_a_rerun_of_the_same_measurement_replaces_it(row):
    rates = error_rates(None, [row(members=("old",)), row(model="1 CNN", members=("old",))])
    rates = error_rates(rates, [row(members=("new",))])
    assert [one["members"] for one in measured_rows(rates)] == [["old"], ["old"], ["new"]]
    assert [(one["model"], one["members"]) for one in measured_rows(latest(rates))] == [("1 CNN", ["old"]), ("5 CNNs", ["new"])]


@pytest.mark.parametrize(
    "other",
    [
        {"table": "table1"},
        {"model": "1 CNN"},
        {"recipe": "code2012"},
        {"recipe": None},
        {"seed": 5},
        {"config": "other"},
        {"on": {"dataset": "tiny"}},
        {"on": {"split": "test"}},
        {"on": {"views": 1}},
        {"on": {"preset": "tiny"}},
        {"on": {"labels": "real"}},
        {"on": {"classes": "imagenet-a"}},
    ],
    ids=str,
)
def test_another_measurement_hides_none(row, other):
    first, second = row(members=("old",)), row(members=("new",), **other)
    assert measured_rows(latest(error_rates(None, [first, second]))) == [first, second]
    assert measured_rows(latest(error_rates(None, [second, first]))) == [second, first]


def test_all_published_rows_are_latest():
    assert len(latest(error_rates(None, []))) == len(published_rows())


def test_the_latest_is_one_query_in_pandas(row):
    rows = [row(members=("old",)), row(recipe="code2012"), row(on={"labels": "real"}), row(members=("new",))]
    rates = error_rates(None, rows)
    frame = rates.to_pandas().drop_duplicates(list(SAME_MEASUREMENT), keep="last")
    assert len(frame) == len(latest(rates))
    ours = frame[frame["source"] == "measured"]
    assert [list(names) for names in ours["members"]] == [one["members"] for one in measured_rows(latest(rates))]


def test_two_recipes_of_one_workspace_are_both_in_table_2(row):
    rates = error_rates(error_rates(None, [row(recipe="paper")]), [row(recipe="code2012")])
    assert [(one["model"], one["recipe"]) for one in measured_rows(select(rates, "table2"))] == [
        ("5 CNNs", "paper"),
        ("5 CNNs", "code2012"),
    ]


def test_a_selection_has_the_published_rows_first_and_the_latest_measured_ones(row):
    rates = error_rates(None, [row(members=("old",)), row(table="members", members=("x",)), row(members=("new",))])
    rows = select(rates, "table2").to_pylist()
    assert [one["source"] == "measured" for one in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1]["members"] == ["new"]
    assert {one["table"] for one in rows} == {"table2"}


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="no table 'table3'; the tables are table1, table2, fall2009"):
        select(error_rates(None, []), "table3")
