"""What a finished training reports."""

import pandas as pd
import pytest

from tasks.job import Weights
from tasks.train import read_record

COLUMNS = ("epoch", "val_num_images", "val_top1_wrong", "val_top5_wrong")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [(1, 1000, 900, 700), (2, None, None, None), (3, 1000, 512, 126), (4, None, None, None)],
            "51.2% top-1 and 12.6% top-5 error (512 and 126 of 1,000 validation images, centre view) after epoch 3",
        ),
        ([(1, None, None, None)], "no errors were measured"),
    ],
)
def test_a_finished_training_says_what_it_reached_and_where_it_is(rows, sentence, tmp_path):
    pd.DataFrame(rows, columns=COLUMNS).astype(float).to_parquet(tmp_path / "metrics.parquet")
    record = read_record(Weights(path=tmp_path / "weights.safetensors", digest="abc"))
    assert str(record).splitlines() == [
        sentence,
        f"weights  {tmp_path}/weights.safetensors  sha256 abc",
        f"metrics  {tmp_path}/metrics.parquet",
        f"curves   {tmp_path}/curves.png",
    ]
