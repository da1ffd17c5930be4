"""A model card as the hub's own library reads it."""

import pyarrow as pa
import pytest
from huggingface_hub import ModelCard

from model.evaluation.error_rates import ErrorCounts
from model.evaluation.rows import rate_columns
from model.evaluation.schemas import ERROR_RATES
from model.reporting.card import UNMEASURED, card_rows, model_card

SECTIONS = {"Use": "Run it.", "Training": "It was trained."}


def row(top1_wrong, top5_wrong, **changes):
    columns = {
        "model": "CNN*, seed 0",
        "dataset": "tiny",
        "split": "val",
        "source": "measured",
        "views": 10,
        "num_images": 1000,
    }
    counts = ErrorCounts(1000, top1_wrong, top5_wrong)
    return dict.fromkeys(ERROR_RATES.names) | columns | rate_columns(counts) | changes


def test_each_row_is_two_results_of_the_model_index():
    results = ModelCard(model_card("demo", [row(297, 34)], SECTIONS)).data.eval_results
    found = [(one.task_type, one.dataset_name, one.dataset_split, one.metric_type, one.metric_value) for one in results]
    same = ("image-classification", "tiny", "val")
    assert found == [(*same, "top1_error", 0.297), (*same, "top5_error", 0.034)]
    assert [one.metric_name for one in results] == ["Top-1 error, 10 views", "Top-5 error, 10 views"]


def test_a_rate_has_its_counts_and_its_interval_beside_it():
    args = ModelCard(model_card("demo", [row(297, 34)], SECTIONS)).data.eval_results[0].metric_args
    assert args["wrong"] / args["images"] == 0.297
    assert args["low"] < 0.297 < args["high"]


def test_other_labels_and_lists_of_classes_are_told_apart():
    rows = [row(297, 34), row(200, 20, labels="real"), row(100, 10, classes="imagenet-a")]
    results = ModelCard(model_card("demo", rows, SECTIONS)).data.eval_results[::2]
    assert [one.dataset_args for one in results] == [None, {"labels": "real"}, {"classes": "imagenet-a"}]


def test_the_table_follows_the_first_section_and_has_one_part_for_each_number_of_views():
    body = ModelCard(model_card("demo", [row(310, 40, views=1), row(297, 34)], SECTIONS)).text
    places = [
        body.index(part) for part in ("# demo", "## Use", "## Error rates", "10 views:", "29.7", "1 view:", "31.0", "## Tr")
    ]
    assert places == sorted(places)
    assert "CNN\\*" in body


@pytest.mark.parametrize("rows", [[], [row(0, 0) | {"top1_error": None, "top5_error": None}]])
def test_a_card_without_measured_errors_says_so_and_has_no_results(rows):
    card = ModelCard(model_card("demo", rows, SECTIONS))
    assert card.data.eval_results is None
    assert UNMEASURED in card.text


def test_names_that_yaml_could_misread_survive():
    name = 'off: "#1" – شبكة'
    assert ModelCard(model_card(name, [row(1, 1)], SECTIONS)).data.model_name == name


def test_the_rows_of_a_card_are_the_newest_of_each_evaluation_of_exactly_its_members():
    rows = [
        row(300, 30, members=["a"]),
        row(310, 31, members=["a"], views=1),
        row(200, 20, members=["a", "b"]),
        row(290, 29, members=["b"]),
        row(280, 28, members=["a"], source="K12 table 2"),
        row(297, 34, members=["a"], table="members"),
    ]
    rates = pa.Table.from_pylist(rows, schema=ERROR_RATES)
    assert [(found["views"], found["top1_wrong"]) for found in card_rows(rates, ["a"])] == [(10, 297), (1, 310)]
    assert [found["top1_wrong"] for found in card_rows(rates, ["b", "a"])] == [200]
    assert card_rows(rates, ["c"]) == []
