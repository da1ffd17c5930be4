"""The tables' schema, the published numbers, rows that are only ever added, pairs compared and classes counted."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.evaluation.answers import Answers, Labels
from model.evaluation.parquet import write_whole
from model.evaluation.tables import (
    COMPARISONS,
    GAPS,
    PER_CLASS,
    SCHEMA,
    SCHEMA_VERSION,
    Origin,
    Scored,
    append,
    compared_rows,
    error_rates,
    gaps,
    latest,
    measured_row,
    per_class_rows,
    published_rows,
    select,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ORIGIN = Origin("synthetic", "val", 10, "demo", "shards-digest", "config-digest", "abc123", None, NOW)
VERSION_1 = {
    **dict.fromkeys(["table", "model", "dataset", "split", "source", "selected_on", "recipe", "shards"], "string"),
    **dict.fromkeys(["config", "code_version", "run_id"], "string"),
    **dict.fromkeys(["num_images", "top1_wrong", "top5_wrong"], "int64"),
    **dict.fromkeys(["top1_error", "top5_error", "top1_low", "top1_high", "top5_low", "top5_high", "log_loss"], "double"),
    "views": "int8",
    "members": "list<item: string>",
    "member_weights": "list<item: double>",
    "created_at": "timestamp[us, tz=UTC]",
    "schema_version": "int16",
}
"""The columns that were published first. A change here breaks whoever reads the tables."""


def answers(ranks=(1, 3, 1, 9), best=None, labelled=True):
    true = np.array([0, 1, 1, 2])
    guesses = np.array([[0, 3], [3, 1], [1, 3], [0, 3]]) if best is None else np.array(best)
    labels = Labels(true, np.array(ranks), np.log([0.5, 0.25, 0.5, 0.125])) if labelled else None
    return Answers(list("abcd"), ["n0", "n1", "n2", "n3"], guesses, labels)


def scored(model="5 CNNs", members=("w1", "w2"), table="table2", weights=None, **changes):
    weights = weights or (1 / len(members),) * len(members)
    return Scored(table, model, tuple(members), weights, None, answers(**changes))


def row(**changes):
    return measured_row(scored(**changes), ORIGIN)


def test_a_measured_row_is_made_of_whole_counts():
    one = row()
    assert (one["num_images"], one["top1_wrong"], one["top5_wrong"]) == (4, 2, 1)
    assert (one["top1_error"], one["top5_error"]) == (2 / 4, 1 / 4)
    assert one["top1_low"] < 0.5 < one["top1_high"]
    assert one["log_loss"] == pytest.approx(-np.log([0.5, 0.25, 0.5, 0.125]).mean())
    assert one["member_weights"] == [0.5, 0.5]
    assert list(one) == SCHEMA.names


def test_without_labels_what_hangs_on_them_is_null():
    one = row(labelled=False)
    assert one["num_images"] == 4
    hang = [name for name in SCHEMA.names if name.startswith("top") or name == "log_loss"]
    assert [one[name] for name in hang] == [None] * len(hang)


def test_a_cost_matrix_adds_the_hierarchical_cost():
    matrix = np.array([[0, 1, 3, 3], [1, 0, 3, 3], [3, 3, 0, 2], [3, 3, 2, 0]], np.uint8)
    one = measured_row(scored(), ORIGIN, matrix)
    assert (one["top1_cost"], one["top5_cost"]) == ((0 + 3 + 0 + 3) / 4, (0 + 0 + 0 + 2) / 4)
    assert row()["top1_cost"] is None


@pytest.mark.parametrize(
    ("model", "split", "source", "top1", "top5"),
    [
        ("Sparse coding [2]", "test", "K12 table 1", 0.471, 0.282),
        ("SIFT + FVs [24]", "test", "K12 table 1", 0.457, 0.257),
        ("CNN", "test", "K12 table 1", 0.375, 0.170),
        ("CNN", "test", "CHM 145-2010", 56209 / 150000, 25498 / 150000),
        ("CNN (centre view)", "test", "K12 section 4.1", 0.390, 0.183),
        ("CNN (centre view)", "test", "CHM 145-2010", 0.390247, 0.182953),
        ("1 CNN", "val", "K12 table 2", 0.407, 0.182),
        ("1 CNN", "val", "CHM 145", 0.406640, 0.182100),
        ("5 CNNs", "val", "K12 table 2", 0.381, 0.164),
        ("5 CNNs", "test", "LB SuperVision", None, 0.16422),
        ("1 CNN*", "val", "K12 table 2", 0.390, 0.166),
        ("1 CNN*", "val", "CHM 146-2012-2011", 0.389900, 0.166220),
        ("7 CNNs*", "val", "K12 table 2", 0.367, 0.154),
        ("7 CNNs*", "test", "K12 table 2", None, 0.153),
        ("SIFT + FVs [7]", "test", "K12 table 2", None, 0.262),
        ("CNN with a sixth convolutional layer", "test", "K12 section 6", 0.674, 0.409),
        ("Best published before [19]", "test", "K12 section 6", 0.781, 0.609),
        ("CNN pre-trained on Fall 2009", "val", "CHM 146-2012-2009", 0.391000, 0.168760),
        ("CNN on one GPU with half the kernels", "test", "CHM 145-half", 0.391680, 0.182287),
        ("CNN without response normalisation", "val", "CHM 148", 0.420340, 0.193620),
        ("CNN with 2 × 2 pooling", "val", "CHM 147", 0.410580, 0.185100),
        ("CNN whose columns never meet", "val", "CHM 150", 0.418280, 0.193300),
        ("LEAR-XRCE", "test", "LB", None, 0.34464),
        ("CaffeNet", "val", "Caffe", 0.426, 0.196),
    ],
)
def test_published_numbers_are_those_of_their_sources(model, split, source, top1, top5):
    rows = [row for row in published_rows() if (row["model"], row["split"], row["source"]) == (model, split, source)]
    assert len(rows) == 1
    for found, expected in ((rows[0]["top1_error"], top1), (rows[0]["top5_error"], top5)):
        assert found is None if expected is None else found == pytest.approx(expected, abs=5e-7)


def test_rates_with_counts_are_their_quotients_and_have_intervals():
    counted = [row for row in published_rows() if row["top1_wrong"] is not None]
    assert len(counted) == 9
    for one in counted:
        assert one["top1_error"] == one["top1_wrong"] / one["num_images"]
        assert one["top1_low"] < one["top1_error"] < one["top1_high"]


def test_every_row_follows_the_schema():
    rates = error_rates(None, [row()])
    assert rates.schema == SCHEMA
    assert rates.num_rows == len(published_rows()) + 1
    assert pa.Table.from_pylist(compared_rows([scored(), scored(members=("w3",))], ORIGIN), schema=COMPARISONS).num_rows == 2
    assert pa.Table.from_pylist(per_class_rows([scored()], ORIGIN), schema=PER_CLASS).num_rows == 4


def test_columns_are_added_and_never_changed():
    types = {field.name: str(field.type) for field in SCHEMA}
    assert {name: types.get(name) for name in VERSION_1} == VERSION_1
    added = [name for name in types if name not in VERSION_1]
    assert (added, SCHEMA_VERSION) == (["top1_cost", "top5_cost"], 2)


def test_runs_append_and_the_latest_is_one_query():
    rates = error_rates(None, [row(members=("old",)), row(model="1 CNN", members=("old",))])
    rates = error_rates(rates, [row(members=("new",))])
    measured = [one for one in rates.to_pylist() if one["source"] == "measured"]
    assert [one["members"] for one in measured] == [["old"], ["old"], ["new"]]
    measured = [one for one in latest(rates).to_pylist() if one["source"] == "measured"]
    assert [(one["model"], one["members"]) for one in measured] == [("1 CNN", ["old"]), ("5 CNNs", ["new"])]
    frame = rates.to_pandas().drop_duplicates(["table", "source", "model", "dataset", "split", "views"], keep="last")
    assert list(frame["model"]) == latest(rates)["model"].to_pylist()


def test_rows_that_were_on_disk_are_added_to(tmp_path):
    rates = error_rates(None, [row(members=("old",))])
    write_whole(tmp_path / "rates.parquet", [rates], SCHEMA)
    again = error_rates(pq.read_table(tmp_path / "rates.parquet"), [row(members=("new",))])
    assert again.schema == SCHEMA
    assert again.slice(0, len(rates)).equals(rates)
    assert again["members"].to_pylist()[-1] == ["new"]


def test_the_same_measurement_again_is_another_row():
    rates = error_rates(error_rates(None, [row()]), [row()])
    assert rates.num_rows == len(published_rows()) + 2


def test_rows_of_an_older_version_get_nulls_for_what_is_new():
    old = pa.table(pa.Table.from_pylist([row()], schema=SCHEMA).drop_columns(["top1_cost", "top5_cost"]))
    rates = append(old, [row(members=("new",))], SCHEMA)
    assert rates.schema == SCHEMA
    assert rates["members"].to_pylist() == [["w1", "w2"], ["new"]]
    assert rates["top1_cost"].to_pylist() == [None, None]


@pytest.mark.parametrize(
    "newer",
    [
        lambda table: table.append_column("colour", pa.array(["red"])),
        lambda table: table.set_column(
            SCHEMA.get_field_index("schema_version"), "schema_version", pa.array([SCHEMA_VERSION + 1], pa.int16())
        ),
    ],
)
def test_rows_of_a_newer_version_are_not_touched(newer):
    table = newer(pa.Table.from_pylist([row()], schema=SCHEMA))
    with pytest.raises(
        ValueError, match=rf"this program writes version {SCHEMA_VERSION}; use a newer one, or another workspace"
    ):
        error_rates(table, [row()])


def test_a_selection_holds_published_rows_first_and_of_ours_the_latest():
    rates = error_rates(None, [row(members=("old",)), row(table="members", members=("x",)), row(members=("new",))])
    rows = select(rates, "table2").to_pylist()
    assert [one["source"] == "measured" for one in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1]["members"] == ["new"]
    assert {one["table"] for one in rows} == {"table2"}


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="no table 'table3'; the tables are table1, table2, fall2009"):
        select(error_rates(None, []), "table3")


def test_pairs_are_compared_at_rank_one_and_five():
    first, second = scored("1 CNN", ("w1",)), scored("5 CNNs", ranks=(1, 1, 1, 9))
    rows = compared_rows([first, second], ORIGIN)
    assert [(one["first"], one["second"], one["rank"]) for one in rows] == [("1 CNN", "5 CNNs", 1), ("1 CNN", "5 CNNs", 5)]
    one = rows[0]
    assert (one["num_images"], one["first_wrong"], one["second_wrong"]) == (4, 2, 1)
    assert (one["only_first_wrong"], one["only_second_wrong"], one["difference"], one["p_value"]) == (1, 0, 0.25, 1.0)
    assert one["difference_low"] <= 0.25 <= one["difference_high"]


def test_what_is_measured_under_two_names_is_compared_once():
    three = [scored("1 CNN", ("w1",)), scored("CNN, seed 0", ("w1",)), scored("CNN, seed 1", ("w2",))]
    assert [(one["first"], one["second"]) for one in compared_rows(three, ORIGIN)[::2]] == [("1 CNN", "CNN, seed 1")]
    assert {one["model"] for one in per_class_rows(three, ORIGIN)} == {"1 CNN", "CNN, seed 1"}


def test_without_labels_nothing_is_compared():
    two = [scored(members=(name,), labelled=False) for name in ("a", "b")]
    assert compared_rows(two, ORIGIN) == per_class_rows(two, ORIGIN) == []


def test_a_class_without_images_has_no_rate():
    rows = per_class_rows([scored()], ORIGIN)
    assert [(one["wnid"], one["num_images"], one["top1_wrong"], one["top1_error"]) for one in rows] == [
        ("n0", 1, 0, 0.0),
        ("n1", 2, 1, 0.5),
        ("n2", 1, 1, 1.0),
        ("n3", 0, 0, None),
    ]
    assert rows[1]["confused_wnids"] == ["n3"]


def test_the_papers_own_gaps_are_within_a_tenth_of_a_point():
    found = {(one["model"], one["rank"]): one for one in gaps(error_rates(None, [])).to_pylist()}
    assert set(found) == {("5 CNNs", 5), ("7 CNNs*", 5)}
    assert found["7 CNNs*", 5]["gap"] == pytest.approx(-0.001)
    assert all(one["within_published"] for one in found.values())


def test_a_measured_gap_is_test_less_validation_of_the_same_members():
    test = Origin(**{**vars(ORIGIN), "split": "test", "created_at": NOW + timedelta(1)})
    other = measured_row(scored(members=("other",), model="1 CNN"), test)
    rates = error_rates(None, [row(), measured_row(scored(ranks=(9, 3, 1, 9)), test), row(model="1 CNN"), other])
    found = [one for one in gaps(rates).to_pylist() if one["source"] == "measured"]
    assert [(one["model"], one["rank"], one["val_error"], one["test_error"]) for one in found] == [
        ("5 CNNs", 1, 0.5, 0.75),
        ("5 CNNs", 5, 0.25, 0.5),
    ]
    assert found[0]["gap"] == 0.25
    assert found[0]["gap_low"] < 0 < 0.25 < found[0]["gap_high"]
    assert not found[0]["within_published"]
    assert gaps(rates).schema == GAPS


def test_an_unlabelled_test_set_has_no_gap():
    test = Origin(**{**vars(ORIGIN), "split": "test"})
    rates = error_rates(None, [row(), measured_row(scored(labelled=False), test)])
    assert not [one for one in gaps(rates).to_pylist() if one["source"] == "measured"]


def test_the_interval_of_a_gap_is_newcombes():
    """[Newcombe 1998] Table II, example (a): 56/70 less 48/80 is .2, from .0524 to .3339."""
    from model.evaluation.error_rates import wilson_interval
    from model.evaluation.tables import _gap_interval

    def counted(wrong, images):
        low, high = wilson_interval(wrong, images)
        return {"top1_wrong": wrong, "top1_error": wrong / images, "top1_low": low, "top1_high": high}

    interval = _gap_interval(counted(48, 80), counted(56, 70), "top1")
    assert interval == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
