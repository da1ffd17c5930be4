"""Columns are only added; rows of older versions are read, rows of newer ones refused."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import InputError
from model.evaluation.published import error_rates
from model.evaluation.schemas import COMPARISONS, ERROR_RATES, PER_CLASS, SCHEMA_VERSION, append, upgrade

KEPT = Path(__file__).parents[3] / "docs" / "results"
"""Tables that were written by version 2."""
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
NEW = ["preset", "recipe", "seed", "labels", "classes", "weights_code_versions"]


def test_columns_are_added_and_never_changed():
    types = {field.name: str(field.type) for field in ERROR_RATES}
    assert {name: types.get(name) for name in VERSION_1} == VERSION_1
    added = {name: kind for name, kind in types.items() if name not in VERSION_1}
    assert added == {
        "preset": "string",
        "seed": "int64",
        "labels": "string",
        "classes": "string",
        "weights_code_versions": "list<item: string>",
        "top1_cost": "double",
        "top5_cost": "double",
    }
    assert SCHEMA_VERSION == 3


@pytest.mark.parametrize(("name", "schema"), [("error-rates", ERROR_RATES), ("comparisons", COMPARISONS)])
def test_rows_of_version_2_are_read_with_their_preset_and_nulls_for_later_columns(name, schema):
    old = pq.read_table(KEPT / f"tiny-{name}.parquet")
    assert set(old["schema_version"].to_pylist()) == {2}
    rows = upgrade(old, schema)
    assert rows.schema == schema
    assert set(rows["preset"].to_pylist()) == {"tiny"}
    assert all(rows[name].null_count == len(old) for name in NEW if name != "preset")
    kept = [name for name in old.schema.names if name != "recipe"]
    assert rows.select(kept).equals(old.select(kept))


def test_rows_of_version_1_are_read_with_nulls_for_later_columns():
    old = pq.read_table(KEPT / "tiny-error-rates.parquet").drop_columns(["top1_cost", "top5_cost"])
    rows = upgrade(old, ERROR_RATES)
    assert rows["preset"].to_pylist() == old["recipe"].to_pylist()
    assert rows["top1_cost"].null_count == len(old)


def test_a_table_of_version_2_is_appended_to_and_its_rows_keep_their_version(row):
    old = pq.read_table(KEPT / "tiny-error-rates.parquet")
    once = error_rates(old, [row()])
    twice = error_rates(once, [row(recipe="code2012")]).to_pylist()
    measured = [one for one in twice if one["source"] == "measured"]
    assert [one["schema_version"] for one in measured] == [2] * len(old) + [3, 3]
    assert [(one["preset"], one["recipe"], one["seed"]) for one in measured] == [
        *[("tiny", None, None)] * len(old),
        ("demo", "paper", 0),
        ("demo", "code2012", 0),
    ]
    assert [one["top1_wrong"] for one in measured[:-2]] == old["top1_wrong"].to_pylist()


def test_a_table_of_this_version_is_read_as_it_is(row):
    table = pa.Table.from_pylist([row()], schema=ERROR_RATES)
    assert upgrade(table, ERROR_RATES).equals(table)
    assert append(None, [row()], ERROR_RATES).equals(table)


@pytest.mark.parametrize("schema", [ERROR_RATES, COMPARISONS, PER_CLASS])
def test_every_table_has_the_same_provenance(schema):
    names = ["preset", "recipe", "seed", "labels", "classes", "shards", "config", "code_version", "weights_code_versions"]
    start = schema.names.index("preset")
    assert schema.names[start : start + 12] == [*names, "run_id", "created_at", "schema_version"]


@pytest.mark.parametrize(
    "newer",
    [
        lambda table: table.append_column("colour", pa.array(["red"])),
        lambda table: table.set_column(
            ERROR_RATES.get_field_index("schema_version"), "schema_version", pa.array([SCHEMA_VERSION + 1], pa.int16())
        ),
    ],
)
def test_rows_of_a_newer_version_are_refused(newer, row):
    table = newer(pa.Table.from_pylist([row()], schema=ERROR_RATES))
    with pytest.raises(
        InputError, match=rf"this program writes version {SCHEMA_VERSION}; use a newer one, or another workspace"
    ):
        error_rates(table, [row()])
