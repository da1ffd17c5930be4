"""The two tables: append-only, read by any version, refused if a newer one wrote them."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import InputError
from model.retraining.history import (
    CHAMPIONS_FILE,
    RETRAININGS_FILE,
    SCHEMAS,
    Champion,
    append,
    read_champions,
    read_retrainings,
    read_table,
)
from model.retraining.rendering import card_sections, champions_as_text, runs_as_markdown

AT = datetime(2026, 5, 1, 3, 4, 5, 678901, tzinfo=UTC)


def champion(name="folder", generation=1, **changes):
    values = {
        "weights": "a" * 64,
        "wnids": ["n1", "n2"],
        "data_version": "d",
        "eval_set": "e",
        "num_images": 200,
        "top1_wrong": 30,
        "since": AT,
        "cause": "first",
        "reason": "the first champion: 30 of 200 wrong",
        "key": "k",
        "vetoed": None,
        "siblings": ["a" * 64],
        "retraining_id": "r",
        "run_id": None,
    }
    return Champion(name=name, generation=generation, **(values | changes))


def run(name="folder", **columns):
    row = dict.fromkeys(SCHEMAS[RETRAININGS_FILE].names) | {"name": name, "finished_at": AT, "schema_version": 1}
    return row | {"decision": "skipped", "reason": "unchanged"} | columns


def test_what_is_appended_is_read_back_in_order(tmp_path):
    rows = [champion(), champion("other"), champion(generation=2, cause="rollback", vetoed="k", reason="back")]
    for one in rows:
        append(tmp_path, CHAMPIONS_FILE, [one.row])
    assert read_champions(tmp_path) == rows
    assert read_champions(tmp_path, "folder") == [rows[0], rows[2]]
    append(tmp_path, RETRAININGS_FILE, [run(images_added=3), run("other")])
    assert [row["images_added"] for row in read_retrainings(tmp_path, "folder")] == [3]
    assert read_retrainings(tmp_path)[0]["finished_at"] == AT


def test_a_workspace_without_tables_has_no_rows(tmp_path):
    assert read_champions(tmp_path) == read_retrainings(tmp_path) == []


def test_a_row_of_an_older_version_lacks_only_the_columns_added_since(tmp_path):
    older = pa.Table.from_pylist([champion().row], schema=SCHEMAS[CHAMPIONS_FILE]).drop_columns("siblings")
    pq.write_table(older, tmp_path / CHAMPIONS_FILE)
    append(tmp_path, CHAMPIONS_FILE, [champion(generation=2).row])
    assert [one.siblings for one in read_champions(tmp_path)] == [None, ["a" * 64]]


@pytest.mark.parametrize("change", ["column", "version"])
def test_a_table_of_a_newer_version_is_refused_and_left_alone(tmp_path, change):
    table = pa.Table.from_pylist([run(schema_version=9 if change == "version" else 1)], schema=SCHEMAS[RETRAININGS_FILE])
    table = table.append_column("mood", pa.array(["good"])) if change == "column" else table
    pq.write_table(table, tmp_path / RETRAININGS_FILE)
    before = (tmp_path / RETRAININGS_FILE).read_bytes()
    with pytest.raises(InputError, match="was written by a newer version .*; use that one, or another workspace"):
        append(tmp_path, RETRAININGS_FILE, [run()])
    assert (tmp_path / RETRAININGS_FILE).read_bytes() == before


def test_both_tables_have_the_columns_of_their_schemas(tmp_path):
    for file, schema in SCHEMAS.items():
        assert read_table(tmp_path, file).schema == schema


def test_generations_are_shown_a_line_each():
    lines = champions_as_text(
        [champion(), champion(generation=2, cause="promoted", top1_wrong=20, reason="superior")]
    ).splitlines()
    assert [line.split()[0] for line in lines] == ["generation", "1", "2"]
    assert lines[2].split()[1:8] == ["2026-05-01", "03:04", "promoted", "10.0", "20", "200", "a" * 12]


def test_runs_are_shown_the_last_first_and_cannot_break_the_table():
    known = {"images_added": 5, "images_removed": 1, "images_relabelled": 0, "num_eval": 200, "champion_wrong": 30}
    known |= {"challenger_wrong": 20, "difference": 0.05, "difference_low": 0.01, "difference_high": 0.09}
    text = runs_as_markdown([run(reason="first | night"), run(decision="promoted", reason="superior", **known)])
    _, _, last, first = text.splitlines()
    cells = ["promoted", "+5 −1 ~0", "15.0", "10.0", "−5.0 [−9.0, −1.0]", "superior"]
    assert [cell.strip() for cell in last.split("|")[2:-1]] == cells
    assert r"first \| night" in first


def test_a_card_says_where_its_weights_come_from():
    text = card_sections(champion())["Provenance"]
    for fact in ("Generation 1 of `folder`", "a" * 64, "set `d`", "30 of 200 wrong", "The first champion: 30"):
        assert fact in text
