"""docs/retraining.md lists every column with its type, and its questions are answered from a history."""

import contextlib
import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model.retraining.history import CHAMPIONS_FILE, RETRAININGS_FILE, append
from model.retraining.past import DECIDED
from model.retraining.schemas import CHAMPIONS, RETRAININGS

TEXT = (Path(__file__).parents[1] / "docs" / "retraining.md").read_text("utf-8")
CODE = re.findall(r"(?:\*\*(\d+)\. [^\n]*\n\n)?```python\n(.*?)```", TEXT, flags=re.DOTALL)
START = datetime(2026, 5, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize(("file", "schema"), [("champions", CHAMPIONS), ("retrainings", RETRAININGS)])
def test_every_column_is_listed_with_its_type(file, schema):
    section = TEXT.partition(f"## {file}.parquet")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| (\w+) \| ([^|]+?) \|", section, flags=re.MULTILINE)[1:]
    assert listed == [(field.name, str(field.type).replace("item:", "element:")) for field in schema]


def test_every_decision_is_explained():
    section = TEXT.partition("## Every night")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)) == {*DECIDED, "held", "skipped", "failed"}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return what each question prints, of six nights: promoted, skipped, undecided, promoted, kept, promoted."""
    root = tmp_path_factory.mktemp("history")
    tables = root / "artifacts" / "tables"
    nights = [("promoted", None, 300), ("skipped", None, None), ("undecided", 300, 299), ("promoted", 300, 250)]
    nights += [("kept", 250, 320), ("promoted", 250, 225)]
    generation = 0
    for day, (decision, champion, challenger) in enumerate(nights):
        at = START + timedelta(days=day)
        generation += decision == "promoted"
        row = {"name": "folder", "scheduled_for": at, "finished_at": at + timedelta(hours=2), "decision": decision}
        row |= {"reason": f"reason {day}", "generation": generation, "eval_set": "frozen", "rule": "superior"}
        row |= {"num_eval": challenger and 1000, "champion_wrong": champion, "challenger_wrong": challenger}
        if champion is not None:
            difference = (champion - challenger) / 1000
            row |= {"difference": difference, "difference_low": difference - 0.02, "p_value": 0.01}
        append(tables, RETRAININGS_FILE, [dict.fromkeys(RETRAININGS.names) | row | {"schema_version": 1}])
        if decision == "promoted":
            made = {"name": "folder", "generation": generation, "weights": f"weights {generation}", "since": at}
            made |= {"cause": "promoted", "reason": f"reason {day}", "schema_version": 1}
            append(tables, CHAMPIONS_FILE, [dict.fromkeys(CHAMPIONS.names) | made])
    found, printed = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for number, code in CODE:
            with contextlib.redirect_stdout(io.StringIO()) as text:
                exec(compile(code, f"question {number}", "exec"), found)
            printed[number] = text.getvalue()
    return {**found, "printed": printed}


def test_there_are_five_questions_and_each_has_an_answer(answers):
    assert list(answers["printed"]) == ["", "1", "2", "3", "4", "5"]
    for number in "12345":
        assert answers["printed"][number].strip()
        assert "Empty" not in answers["printed"][number]


def test_the_live_model_of_a_date_is_the_last_one_before_it(answers):
    assert (answers["live"]["generation"], answers["live"]["weights"]) == (1, "weights 1")


def test_a_skipped_night_has_its_reason(answers):
    assert list(answers["skipped"]["reason"]) == ["reason 1"]


def test_looks_are_the_comparisons_on_a_set(answers):
    assert answers["looks"].loc["frozen"].to_dict() == {"kept": 1, "promoted": 2, "undecided": 1}


def test_the_error_falls_from_champion_to_champion(answers):
    assert list(answers["same"]["challenger_wrong"]) == [300, 250, 225]


def test_a_narrow_win_is_suspected(answers):
    assert "0.025" in answers["printed"]["5"]
    assert "0.050" not in answers["printed"]["5"]
