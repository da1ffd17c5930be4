"""The same rows as text, Markdown, LaTeX and cells; an unknown value is a dash."""

from model.evaluation.published import published_rows
from model.evaluation.rendering import COLUMNS, as_cells, as_latex, as_markdown, as_text, gains_as_text, shifts_as_text
from model.evaluation.schemas import ERROR_RATES

UNKNOWN = next(row for row in published_rows() if row["model"] == "SIFT + FVs [7]")
OURS = dict.fromkeys(ERROR_RATES.names) | {
    "model": "7 CNNs* | a_b & 5%",
    "dataset": "synthetic",
    "split": "val",
    "source": "measured",
    "num_images": 1000,
    "top1_wrong": 234,
    "top5_wrong": 21,
    "top1_error": 0.234,
    "top5_error": 0.021,
    "top1_low": 0.2088,
    "top1_high": 0.2612,
    "top5_low": 0.0138,
    "top5_high": 0.0319,
}


def test_text_shows_counts_and_intervals_next_to_rates():
    heading, unknown, ours = as_text([UNKNOWN, OURS]).splitlines()
    assert [heading.index(name) for name in COLUMNS] == sorted(heading.index(name) for name in COLUMNS)
    assert unknown.split("  ")[0] == "SIFT + FVs [7]"
    assert unknown.count("–") == 5
    assert ours.split()[-9:] == ["val", "23.4", "20.9–26.1", "2.1", "1.4–3.2", "234", "21", "1,000", "measured"]


def test_markdown_escapes_its_own_characters():
    heading, rule, unknown, ours = as_markdown([UNKNOWN, OURS]).splitlines()
    assert ours.startswith("| 7 CNNs\\* \\| a_b & 5% | synthetic val")
    assert len({len(line) for line in (heading, rule, unknown, ours)}) == 1
    assert rule.count("-:") == 7


def test_latex_has_the_rules_of_booktabs_and_escapes_its_own_characters():
    lines = as_latex([UNKNOWN, OURS]).splitlines()
    assert lines[0] == r"\begin{tabular}{llrrrrrrrl}"
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert lines[-1] == r"\end{tabular}"
    assert r"7 CNNs* | a\_b \& 5\%" in lines[5]
    assert "20.9--26.1" in lines[5]
    assert all(line.count("&") - line.count(r"\&") == len(COLUMNS) - 1 for line in lines if line.endswith(r"\\"))


def test_cells_are_named_by_their_columns():
    assert as_cells([OURS])[0] == {
        "model": "7 CNNs* | a_b & 5%",
        "split": "synthetic val",
        "top-1 %": "23.4",
        "top-1 95 %": "20.9–26.1",
        "top-5 %": "2.1",
        "top-5 95 %": "1.4–3.2",
        "top-1 wrong": "234",
        "top-5 wrong": "21",
        "images": "1,000",
        "source": "measured",
    }


def test_one_recipe_needs_no_column():
    assert "recipe" not in as_cells([UNKNOWN, OURS | {"recipe": "paper"}, OURS | {"recipe": "paper"}])[0]


def test_several_recipes_have_a_column():
    rows = [UNKNOWN, OURS | {"recipe": "paper"}, OURS | {"recipe": "code2012"}, OURS]
    assert [cells["recipe"] for cells in as_cells(rows)] == ["–", "paper", "code2012", "–"]
    assert list(as_cells(rows)[0]) == ["model", "recipe", *COLUMNS[1:]]
    heading, _, paper, code2012, _ = as_text(rows).splitlines()
    assert heading.split()[:3] == ["model", "recipe", "split"]
    assert paper.index("paper") == code2012.index("code2012") == heading.index("recipe")
    assert as_markdown(rows).splitlines()[3].split(" | ")[1].strip() == "paper"
    assert as_latex(rows).splitlines()[0] == r"\begin{tabular}{lllrrrrrrrl}"


def compared(second, members, rank=1):
    return {
        "first": "1 CNN",
        "second": second,
        "second_members": members,
        "rank": rank,
        "difference": 0.03,
        "difference_low": 0.0004,
        "difference_high": 0.05,
        "p_value": 0.0123,
        "only_first_wrong": 1075,
        "only_second_wrong": 45,
    }


def test_the_gain_of_an_ensemble_is_a_line_with_its_interval():
    rows = [compared("CNN, seed 1", ["b"]), compared("5 CNNs", ["a", "b"]), compared("5 CNNs", ["a", "b"], rank=5)]
    assert gains_as_text(rows) == (
        "5 CNNs against 1 CNN, top-1: −3.0 points, 95 % −5.0 to 0.0, p = 0.012; alone wrong on 45 images against 1,075"
    )
    assert gains_as_text([]) == ""


def test_other_labels_and_classes_are_shown_beside_the_images():
    rows = [OURS, OURS | {"labels": "real"}, OURS | {"dataset": "imagenet-a", "split": "test", "classes": "imagenet-a"}]
    shown = [line["split"] for line in as_cells(rows)]
    assert shown == ["synthetic val", "synthetic val, labels real", "imagenet-a test, among imagenet-a"]


def test_a_shift_is_a_line_with_its_interval():
    row = {"model": "1 CNN", "dataset": "imagenet-r", "split": "test", "labels": None, "classes": "imagenet-r", "rank": 1}
    row |= {"val_dataset": "ilsvrc2012", "val_split": "val"}
    row |= {"difference": 0.2345, "difference_low": 0.21, "difference_high": 0.26}
    assert shifts_as_text([row, row | {"rank": 5}]) == (
        "1 CNN on imagenet-r test, among imagenet-r against ilsvrc2012 val, among imagenet-r, top-1: "
        "+23.4 points, 95 % +21.0 to +26.0"
    )
