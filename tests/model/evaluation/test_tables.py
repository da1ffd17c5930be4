"""The tables that an evaluation leaves in a workspace."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from base.errors import InputError
from model.evaluation.tables import NAMES, write_tables


def table(directory, name):
    return pq.read_table(directory / f"{name}.parquet").to_pylist()


def test_every_table_is_written(tmp_path, measured, evaluation):
    rows = write_tables([measured("1 CNN", ("w1",)), measured()], evaluation, tmp_path / "tables")
    assert [row["model"] for row in rows] == ["1 CNN", "5 CNNs"]
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        *(f"{name}.parquet" for name in NAMES),
        *(f"{name}.{ending}" for name in ("table1", "table2", "fall2009") for ending in ("md", "tex")),
    }
    assert [len(table(tmp_path / "tables", name)) for name in ("comparisons", "per_class")] == [2, 8]


def test_two_recipes_of_one_workspace_are_both_in_table_2_under_their_names(tmp_path, measured, evaluation):
    for recipe in ("paper", "code2012"):
        write_tables([measured(recipe=recipe)], evaluation, tmp_path)
    rows = [row for row in table(tmp_path, "table2") if row["source"] == "measured"]
    assert [row["recipe"] for row in rows] == ["paper", "code2012"]
    lines = [line for line in (tmp_path / "table2.md").read_text("utf-8").splitlines() if "measured" in line]
    assert ["code2012" in line for line in lines] == [False, True]
    assert len(lines) == 2


def test_rows_of_earlier_evaluations_stay(tmp_path, measured, evaluation):
    write_tables([measured("1 CNN", ("w1",)), measured()], evaluation, tmp_path)
    before = {name: table(tmp_path, name) for name in ("error_rates", "comparisons", "per_class")}
    write_tables([measured("1 CNN", ("w1",)), measured()], evaluation, tmp_path)
    for name, rows in before.items():
        assert table(tmp_path, name)[: len(rows)] == rows
        assert len(table(tmp_path, name)) > len(rows)


def test_a_cost_matrix_adds_the_hierarchical_cost(tmp_path, measured, evaluation):
    matrix = np.array([[0, 1, 3, 3], [1, 0, 3, 3], [3, 3, 0, 2], [3, 3, 2, 0]], np.uint8)
    (row,) = write_tables([measured()], evaluation, tmp_path, matrix)
    assert row["top1_cost"] == (0 + 3 + 0 + 3) / 4


def test_tables_of_a_newer_version_stay_as_they_are(tmp_path, measured, evaluation):
    write_tables([measured()], evaluation, tmp_path)
    newer = pq.read_table(tmp_path / "error_rates.parquet")
    newer = newer.append_column("colour", newer["model"])
    pq.write_table(newer, tmp_path / "error_rates.parquet")
    with pytest.raises(InputError, match="unknown columns: colour"):
        write_tables([measured()], evaluation, tmp_path)
    assert pq.read_table(tmp_path / "error_rates.parquet").equals(newer)
