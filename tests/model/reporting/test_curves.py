"""The picture of a run."""

from PIL import Image

from model.evaluation.error_rates import ErrorCounts
from model.reporting.curves import draw_curves
from model.training.records import Record, as_table


def run(rates):
    counts, records = ErrorCounts(100, 40, 10), []
    for epoch, rate in enumerate(rates, start=1):
        records.append(Record(epoch, epoch, rate, rate, 3 - epoch / 9, counts, counts if epoch % 2 else None, 2.0, 0.5, 0.1))
    return as_table(records).to_pandas()


def test_it_is_drawn_and_another_run_looks_different(tmp_path):
    for name, rates in {"one": [0.01, 0.01], "again": [0.01, 0.01], "two": [0.01, 0.001]}.items():
        draw_curves({"a": run(rates)}, tmp_path / f"{name}.png")
    one, again, two = (Image.open(tmp_path / f"{name}.png").convert("RGB") for name in ("one", "again", "two"))
    assert one.size == (1100, 700)
    assert one.tobytes() == again.tobytes() != two.tobytes()


def test_several_runs_share_a_picture(tmp_path):
    draw_curves({"a": run([0.01] * 3), "b": run([0.01] * 5)}, tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > 10_000
