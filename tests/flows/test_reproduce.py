"""The whole table as a user makes it: unbroken, killed and begun again, and found the second time."""

import os
import re
import shutil
import signal
import time
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from tasks.artifacts import read_manifest
from tasks.code import ROOT, code_version

TABLES = ("error_rates", "table1", "table2", "fall2009", "comparisons", "per_class", "gaps")
FRESH = ["run_id", "created_at"]
"""Columns that tell when a row was measured, not what."""


def kill_when(start, workspace, condition, **variables):
    """Kill everything the program started, without warning, as soon as the condition holds."""
    process = start(workspace, **variables)
    while not condition() and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "the program ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def measured(workspace):
    return pd.read_parquet(workspace / "tables" / "error_rates.parquet").query("source == 'measured'").drop(columns=FRESH)


def test_the_last_lines_are_the_table_and_where_it_is(reproduced):
    workspace, said = reproduced
    lines = said.strip().splitlines()
    assert lines[-len(TABLES) :] == [f"{workspace}/tables/{name}.parquet" for name in TABLES]
    heading = next(n for n, line in enumerate(lines) if line.startswith("model "))
    table = "\n".join(lines[heading : -len(TABLES)])
    for model in ("SIFT + FVs [7]", "5 CNNs", "7 CNNs*", "2 CNNs", "CNN, seed 0", "CNN, seed 1"):
        assert model in table


def test_rates_are_whole_counts_over_the_whole_split(reproduced):
    rows = measured(reproduced[0])
    assert list(rows["model"]) == ["1 CNN", "2 CNNs", "CNN, seed 0", "CNN, seed 1"]
    assert (rows["num_images"] == 1000).all()
    assert (rows["top1_error"] == rows["top1_wrong"] / 1000).all()
    one, members = rows.iloc[0], rows[rows["table"] == "members"]
    assert one["top1_wrong"] == members.iloc[0]["top1_wrong"]
    assert rows["members"].map(len).tolist() == [1, 2, 1, 1]


def test_error_rates_agree_with_the_predictions_that_lie_beside_them(reproduced):
    rows = measured(reproduced[0])
    for _, row in rows[rows["table"] == "members"].iterrows():
        path = next((reproduced[0] / "predictions" / row["members"][0][:12]).rglob("predictions.parquet"))
        frame = pd.read_parquet(path)
        assert frame["image_id"].is_unique
        assert (len(frame), int((frame["rank"] > 1).sum())) == (row["num_images"], row["top1_wrong"])


@pytest.fixture
def copy(reproduced, tmp_path):
    """Return a copy of the workspace of `reproduced`."""
    return shutil.copytree(reproduced[0], tmp_path / "workspace", ignore=shutil.ignore_patterns("prefect"))


def test_a_second_run_finds_everything_and_adds_the_same_rows(copy, finish_forked):
    before = measured(copy)
    said = finish_forked(copy)
    assert " epoch " not in said
    after = measured(copy)
    assert len(after) == 2 * len(before)
    for rows in (after.iloc[: len(before)], after.iloc[len(before) :]):
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), before.reset_index(drop=True))
    latest = pd.read_parquet(copy / "tables" / "table2.parquet").query("source == 'measured'")
    assert list(latest["model"]) == ["1 CNN", "2 CNNs"]


@pytest.mark.long
def test_killed_in_every_step_and_begun_again_it_ends_with_the_same_tables(
    reproduced, start, finish, prefect_home, server, tmp_path
):
    """The training shards and the second network are there, since they take long; val and the first network are made."""
    prefect_home(tmp_path / "prefect")
    for made in ("shards/synthetic/train", "runs/demo-cnn-1"):
        shutil.copytree(reproduced[0] / made, tmp_path / made)

    def said(words):
        return lambda: words in (tmp_path / "said.txt").read_text()

    def half_trained():
        return any(tmp_path.glob("runs/*/*.partial/work/checkpoints/*.pt"))

    def half_predicted():
        return any(tmp_path.glob("predictions/*/*/*.partial/job.json"))

    for condition, variables in ((said("images of 20 classes into"), {}), (half_trained, server), (half_predicted, server)):
        kill_when(start, tmp_path, condition, **variables)
    assert "resumed after epoch " in (tmp_path / "said.txt").read_text()
    finish(tmp_path)
    again = measured(tmp_path)
    pd.testing.assert_frame_equal(again, measured(reproduced[0]).head(len(again)))


def test_a_row_leads_to_its_weights_settings_shards_and_commit(reproduced, tmp_path, monkeypatch):
    """The recipe of docs/tables.md, on a real workspace."""
    text = (ROOT / "docs" / "tables.md").read_text("utf-8")
    (recipe,) = re.findall(r"\*\*11\. .*?```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "artifacts").symlink_to(reproduced[0])
    monkeypatch.chdir(tmp_path)
    found = {"pd": pd, "Path": Path, "ours": measured(reproduced[0])}
    exec(compile(recipe.replace("7 CNNs*", "2 CNNs"), "recipe 11", "exec"), found)
    trained, read = found["trained"], found["read"]
    assert [settings["training"]["seed"] for settings in trained["settings"]] == [0, 1]
    for run in trained.itertuples():
        weights = sha256((run.folder / "weights.safetensors").read_bytes()).hexdigest()
        assert weights == run.weights
        assert weights in set(found["row"]["members"])
        assert run.code_version == found["row"]["code_version"] == code_version()
    assert {inputs["dataset"]["split"] for inputs in read["inputs"]} == {"train", "val"}
    assert all(settings["storage"] == "square72" for settings in read["settings"])
    assert list(found["row"]["weights_code_versions"]) == [code_version()] * 2
    assert (found["row"]["preset"], found["row"]["recipe"], found["row"]["seed"]) == ("demo", "demo", 0)


def test_after_a_collection_everything_is_found(copy, finish_forked, program):
    """With what older code has left beside it: the same artefacts under other keys, of which the digests are equal."""
    made = sorted(manifest.parent for manifest in copy.glob("*/**/manifest.json"))
    for path in made:
        manifest = read_manifest(path)
        older = manifest.model_copy(update={"code": "older", "created_at": manifest.created_at - timedelta(days=1)})
        left = shutil.copytree(path, path.with_name(older.key.digest[:12]))
        (left / "manifest.json").write_text(older.model_dump_json())
    before = measured(copy)
    said = program("flows.collect", "--delete", "--workspace", copy).stdout
    assert f"deleted: {len(made)} artefacts, " in said
    assert f"; {len(made)} artefacts stay, " in said
    assert sorted(manifest.parent for manifest in copy.glob("*/**/manifest.json")) == made
    said = finish_forked(copy)
    assert {Path(line.partition(": found ")[2]) for line in said.splitlines() if ": found " in line} == set(made)
    again = measured(copy).iloc[len(before) :].reset_index(drop=True)
    pd.testing.assert_frame_equal(again, before.tail(len(again)).reset_index(drop=True))


def test_two_recipes_in_one_workspace_keep_their_rows(copy, finish_forked):
    one = ["--epochs", "1", "--num-networks", "1", "--num-pretrained", "0", "--no-report"]
    said = [finish_forked(copy, ["--recipe", recipe, *one]) for recipe in ("paper", "code2012")]
    table = pd.read_parquet(copy / "tables" / "table2.parquet").query("source == 'measured' and model == '1 CNN'")
    assert list(table["recipe"]) == ["demo", "paper", "code2012"]
    assert table["config"].is_unique
    assert "found " in said[1]
