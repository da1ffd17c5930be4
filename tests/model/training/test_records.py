"""The records of a run as a table and as a file."""

import pandas as pd
import pyarrow.parquet as pq

from model.evaluation.error_rates import ErrorCounts
from model.training.records import METRICS, Record, as_table, write_metrics

COUNTS = ErrorCounts(100, 40, 10)
RECORDS = [
    Record(5, 1, 0.01, 0.02, 1.5, COUNTS, None, 2.0, 0.5, 0.0),
    Record(8, 1, 0.01, 0.02, 1.25, COUNTS, ErrorCounts(50, 15, 5), 4.0, 0.5, 0.1),
]


def test_a_row_holds_whole_counts_and_null_if_nothing_was_validated():
    first, second = as_table(RECORDS).to_pylist()
    assert first == {
        "step": 5,
        "epoch": 1,
        "learning_rate": 0.01,
        "bias_learning_rate": 0.02,
        "loss": 1.5,
        "seconds": 2.0,
        "wait_seconds": 0.5,
        "val_seconds": 0.0,
        "train_num_images": 100,
        "train_top1_wrong": 40,
        "train_top5_wrong": 10,
        "val_num_images": None,
        "val_top1_wrong": None,
        "val_top5_wrong": None,
        "images_per_second": 50.0,
    }
    assert [second[f"val_{count}"] for count in ("num_images", "top1_wrong", "top5_wrong")] == [50, 15, 5]


def test_columns_and_types_are_the_same_whether_or_not_anything_was_validated(tmp_path):
    for records in (RECORDS, RECORDS[:1], RECORDS[1:]):
        write_metrics(records, tmp_path / "metrics.parquet")
        assert pq.read_schema(tmp_path / "metrics.parquet").equals(METRICS)
    frame = pd.read_parquet(tmp_path / "metrics.parquet")
    assert frame.dtypes["train_num_images"] == "int64"
    assert frame.dtypes["val_num_images"] == "float64"
