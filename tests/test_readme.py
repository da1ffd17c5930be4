"""The README's tables are those of the Parquet files that made them."""

from benchmarks import readme


def test_the_tables_are_what_the_kept_rows_render():
    text = readme.README.read_text("utf-8")
    assert readme.rendered(text) == text, "run python -m benchmarks.readme"


def test_the_kept_rows_are_whole_counts_of_one_run_each():
    kept = {preset: readme.read_rows(preset, "error_rates") for preset in readme.PRESETS}
    assert kept["demo"]
    for preset, rows in ((preset, rows) for preset, rows in kept.items() if rows):
        assert len({row["run_id"] for row in rows}) == 1
        assert {row["preset"] for row in rows} == {preset.removesuffix("40")}
        assert all(row["top1_error"] == row["top1_wrong"] / row["num_images"] for row in rows)
