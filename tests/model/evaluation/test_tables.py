"""The tables' schema, the published numbers, and rows that are never written twice."""

from datetime import UTC, datetime

import pytest
import torch

from model.evaluation.predictions import Predictions
from model.evaluation.rendering import as_cells, as_text
from model.evaluation.tables import SCHEMA, Origin, Scored, error_rates, measured_row, published_rows, select

ORIGIN = Origin("demo", "shards-digest", "config-digest", "abc123", None, datetime(2026, 1, 2, tzinfo=UTC))


def scored(model="5 CNNs", members=("w1", "w2")):
    probs = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.9, 0.1]])
    predictions = Predictions(list("abcd"), torch.tensor([0, 1, 1, 0]), probs, ["n0", "n1"])
    return Scored(model, "synthetic", "val", 10, members, predictions)


def test_a_measured_row_is_made_of_whole_counts():
    row = measured_row("table2", scored(), ORIGIN)
    assert (row["num_images"], row["top1_wrong"], row["top5_wrong"]) == (4, 1, 0)
    assert row["top1_error"] == row["top1_wrong"] / row["num_images"]
    assert row["top1_low"] < 0.25 < row["top1_high"]
    assert row["member_weights"] == [0.5, 0.5]
    assert set(row) == set(SCHEMA.names)


@pytest.mark.parametrize(
    ("model", "split", "source", "top1", "top5"),
    [
        ("CNN", "test", "K12 table 1", 0.375, 0.170),
        ("CNN", "test", "CHM 145-2010", 56209 / 150000, 25498 / 150000),
        ("1 CNN", "val", "K12 table 2", 0.407, 0.182),
        ("1 CNN", "val", "CHM 145", 0.406640, 0.182100),
        ("5 CNNs", "val", "K12 table 2", 0.381, 0.164),
        ("5 CNNs", "test", "LB SuperVision", None, 0.16422),
        ("1 CNN*", "val", "K12 table 2", 0.390, 0.166),
        ("7 CNNs*", "val", "K12 table 2", 0.367, 0.154),
        ("7 CNNs*", "test", "K12 table 2", None, 0.153),
        ("SIFT + FVs [7]", "test", "K12 table 2", None, 0.262),
        ("CNN with a sixth convolutional layer", "test", "K12 section 6", 0.674, 0.409),
    ],
)
def test_published_numbers_are_the_papers(model, split, source, top1, top5):
    rows = [row for row in published_rows() if (row["model"], row["split"], row["source"]) == (model, split, source)]
    assert len(rows) == 1
    for found, expected in ((rows[0]["top1_error"], top1), (rows[0]["top5_error"], top5)):
        assert found is None if expected is None else found == pytest.approx(expected, abs=1e-12)


def test_rates_with_counts_are_their_quotients_and_have_intervals():
    for row in published_rows():
        if row["top1_wrong"] is not None:
            assert row["top1_error"] == row["top1_wrong"] / row["num_images"]
            assert row["top1_low"] < row["top1_error"] < row["top1_high"]


def test_every_row_follows_the_schema():
    rates = error_rates(None, [measured_row("table2", scored(), ORIGIN)])
    assert rates.schema == SCHEMA
    assert rates.num_rows == len(published_rows()) + 1


def test_the_same_measurement_is_one_row_and_another_is_added():
    first = error_rates(None, [measured_row("table2", scored(), ORIGIN)])
    assert error_rates(first, [measured_row("table2", scored(), ORIGIN)]).equals(first)
    more = error_rates(first, [measured_row("table2", scored(members=("w1", "w3")), ORIGIN)])
    assert more.num_rows == first.num_rows + 1


def test_a_selection_holds_published_rows_first_and_of_ours_the_latest():
    rates = error_rates(None, [measured_row("table2", scored(members=("old",)), ORIGIN)])
    rates = error_rates(rates, [measured_row("table2", scored(members=("new",)), ORIGIN)])
    rows = select(rates, "table2").to_pylist()
    assert [row["source"] == "measured" for row in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1]["members"] == ["new"]
    assert {row["table"] for row in rows} == {"table2"}


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="no table 'table3'; the tables are table1, table2, fall2009"):
        select(error_rates(None, []), "table3")


def test_a_table_as_text_shows_counts_beside_rates_and_dashes_for_what_is_not_known():
    unknown, ours = published_rows()[6], measured_row("table2", scored(), ORIGIN)
    lines = as_text([unknown, ours]).splitlines()
    assert lines[1].split("  ")[0] == "SIFT + FVs [7]"
    assert "–" in lines[1]
    assert lines[2].split() == ["5", "CNNs", "synthetic", "val", "25.0", "0.0", "1", "0", "4", "measured"]
    assert as_cells([ours])[0]["top-1 %"] == "25.0"
