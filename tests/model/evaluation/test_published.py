"""The published numbers, and measured rows that are appended below them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.evaluation.parquet import write_whole
from model.evaluation.published import beside_published, error_rates, published_rows
from model.evaluation.schemas import ERROR_RATES


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


def test_published_numbers_that_are_unknown_are_null():
    one = next(row for row in published_rows() if row["source"] == "K12 section 6" and row["views"] is None)
    assert (one["num_images"], one["top1_wrong"], one["top1_low"], one["preset"]) == (None, None, None, None)
    assert list(one) == ERROR_RATES.names


def test_the_papers_own_rows_of_the_same_tables_come_first(row):
    rows = beside_published([row(), row(table="members")])
    assert [one["source"] for one in rows] == ["K12 table 2"] * 7 + ["measured"] * 2


def test_published_rows_come_first_and_are_not_repeated(row):
    rates = error_rates(error_rates(None, [row()]), [row()])
    assert rates.schema == ERROR_RATES
    assert rates["source"].to_pylist().count("measured") == 2
    assert rates.num_rows == len(published_rows()) + 2


def test_rows_that_were_on_disk_are_added_to(tmp_path, row):
    rates = error_rates(None, [row(members=("old",))])
    write_whole(tmp_path / "rates.parquet", [rates], ERROR_RATES)
    again = error_rates(pq.read_table(tmp_path / "rates.parquet"), [row(members=("new",))])
    assert again.schema == ERROR_RATES
    assert again.slice(0, len(rates)).equals(rates)
    assert again["members"].to_pylist()[-1] == ["new"]


def test_a_changed_published_row_replaces_the_one_in_the_file(row):
    known = error_rates(None, [row()]).to_pylist()
    known[0]["top1_error"] = 0.999
    assert error_rates(pa.Table.from_pylist(known, schema=ERROR_RATES), []).equals(error_rates(None, [row()]))
