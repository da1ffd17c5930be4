"""Which rows a report shows: those of its own networks, from their newest measurement, and published ones."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.evaluation.kernels import PUBLISHED, SPECIALISATION
from model.evaluation.schemas import COMPARISONS, ERROR_RATES, SHIFTS
from model.reporting.tables import digest, report_tables
from model.retrieval.schemas import RETRIEVAL


def rows(member, day, bits, **changes):
    same = {"members": [member], "space": "features", "method": "itq", "created_at": datetime(2026, 1, day, tzinfo=UTC)}
    return [{**same, "bits": one, "run_id": f"run {day}", "map": day / 10, **changes} for one in bits]


def write(path, found, schema):
    pq.write_table(pa.Table.from_pylist(found, schema=schema), path)


@pytest.fixture
def directory(tmp_path):
    """Return a folder of tables in which two networks were measured, the first of them twice."""
    found = [*rows("a", 1, (28, 256)), *rows("b", 1, (28, 256)), *rows("c", 1, (28,)), *rows("a", 2, (16,))]
    write(tmp_path / "retrieval.parquet", found, RETRIEVAL)
    measured = [
        {"members": [member], "model": name, "source": "measured", "created_at": datetime(2026, 1, day, tzinfo=UTC)}
        for member, name, day in (("a", "CNN, seed 0", 1), ("a", "renamed", 2), ("c", "other", 1))
    ]
    both = {"members": ["a", "b"], "model": "2 networks", "source": "measured", "created_at": datetime(2026, 1, 1, tzinfo=UTC)}
    write(tmp_path / "specialisation.parquet", [PUBLISHED, *measured, both], SPECIALISATION)
    return tmp_path


def test_a_network_that_was_measured_again_shows_its_newest_rows_only(directory):
    shown = report_tables(directory, ["a", "b"], "table2")["retrieval"]
    assert [(*members, bits) for members, bits in zip(shown["members"], shown["bits"], strict=True)] == [
        ("b", 28),
        ("b", 256),
        ("a", 16),
    ]


def test_a_network_has_its_newest_name_and_the_paper_stands_first(directory):
    shown = report_tables(directory, ["a", "b"], "table2")["specialisation"]
    assert list(shown["model"]) == ["CNN", "renamed", "2 networks"]


def test_networks_of_other_reports_are_left_out(directory):
    assert list(report_tables(directory, ["c"], "table2")["specialisation"]["model"]) == ["CNN", "other"]
    assert report_tables(directory, ["d"], "table2")["retrieval"].empty


def test_other_networks_add_their_error_rates_and_nothing_else(directory):
    found = [
        {
            "members": members,
            "model": model,
            "table": "table2",
            "source": "measured",
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for members, model in ((["a"], "1 CNN"), (["c"], "1 CNN*"), (["a", "c"], "7 CNNs*"), (["d"], "another"))
    ]
    write(directory / "error_rates.parquet", found, ERROR_RATES)
    alone, both = (report_tables(directory, ["a"], "table2", others) for others in ((), ("c",)))
    assert list(alone["rates"]["model"]) == ["1 CNN"]
    assert list(both["rates"]["model"]) == ["1 CNN", "1 CNN*", "7 CNNs*"]
    assert both["retrieval"].equals(alone["retrieval"])


def test_other_sets_and_labels_are_among_the_shifts_and_not_the_rates(directory):
    same = {"members": ["a"], "model": "1 CNN", "table": "table2", "source": "measured", "split": "val", "shards": "val"}
    v2 = {"dataset": "imagenet-v2-top-images", "split": "test", "shards": "v2"}
    found = [same, {**same, "labels": "real"}, {**same, "classes": "imagenet-a"}, {**same, **v2}]
    write(directory / "error_rates.parquet", found, ERROR_RATES)
    assert len(report_tables(directory, ["a"], "table2")["rates"]) == 4 - 2
    shifts = [{**same, **other, "rank": rank} for other in ({"labels": "real"}, v2, v2) for rank in (1, 5)]
    for row in shifts:
        row.pop("source")
    other = {**shifts[0], "members": ["c"]}
    write(directory / "shifts.parquet", [*shifts, other], SHIFTS)
    shown = report_tables(directory, ["a"], "table2")
    assert len(shown["rates"]) == 1
    pair = {"first_members": ["a"], "second_members": ["a"], "created_at": datetime(2026, 1, 1, tzinfo=UTC), "rank": 1}
    pairs = [{**pair, **{name: row.get(name) for name in ("labels", "classes", "shards")}} for row in found]
    write(directory / "comparisons.parquet", pairs, COMPARISONS)
    assert list(report_tables(directory, ["a"], "table2")["comparisons"]["shards"]) == ["val"]
    kinds = shown["shifts"][["labels", "shards", "rank"]].fillna("")
    assert list(kinds.itertuples(index=False, name=None)) == [
        ("real", "val", 1),
        ("real", "val", 5),
        ("", "v2", 1),
        ("", "v2", 5),
    ]


def test_what_was_measured_again_with_the_same_numbers_is_the_same_report(directory):
    before = digest(report_tables(directory, ["b"], "table2"))
    again = rows("b", 3, (28, 256), map=0.1)
    known = pq.read_table(directory / "retrieval.parquet").to_pylist()
    write(directory / "retrieval.parquet", known + again, RETRIEVAL)
    assert digest(report_tables(directory, ["b"], "table2")) == before
    write(directory / "retrieval.parquet", known + rows("b", 3, (28, 256), map=0.2), RETRIEVAL)
    assert digest(report_tables(directory, ["b"], "table2")) != before


def test_missing_tables_are_empty(tmp_path):
    assert all(frame.empty for frame in report_tables(tmp_path, ["a"], "table2").values())
