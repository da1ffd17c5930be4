"""docs/tables.md lists every column with its type, and its recipes run on the tables and manifests of a workspace."""

import contextlib
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
import torch

from model.evaluation.ensembles import Mix, average
from model.evaluation.predictions import open_predictions, write_part
from model.evaluation.rows import Evaluation, Measured
from model.evaluation.schemas import COMPARISONS, ERROR_RATES, GAPS, PER_CLASS, SHIFTS
from model.evaluation.selection import SAME_MEASUREMENT
from model.evaluation.shifts import shift_rows
from model.evaluation.tables import NAMES, write_shifts, write_tables

TEXT = (Path(__file__).parents[1] / "docs" / "tables.md").read_text("utf-8")
RECIPES = re.findall(r"\*\*(\d+)\. .*?```python\n(.*?)```", TEXT, flags=re.DOTALL)
SCHEMAS = {"error_rates": ERROR_RATES, "comparisons": COMPARISONS, "per_class": PER_CLASS, "gaps": GAPS, "shifts": SHIFTS}
NUM_IMAGES, WNIDS = 300, [f"n{number:08d}" for number in range(20)]
ROWS = [
    ("table2", "1 CNN", (0,)),
    ("table2", "5 CNNs", (0, 1, 2, 3, 4)),
    ("table2", "1 CNN*", (5,)),
    ("table2", "7 CNNs*", tuple(range(7))),
    *(("members", f"CNN{'*' * (n > 4)}, seed {n % 5}", (n,)) for n in range(7)),
]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_is_listed_with_its_type(name):
    section = TEXT.partition(f"## {name}.parquet")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| (\w+) \| ([^|]+?) \|", section, flags=re.MULTILINE)[1:]
    assert listed == [(field.name, str(field.type)) for field in SCHEMAS[name]]


def test_the_rule_of_the_latest_row_names_every_column():
    rule = TEXT.partition("**Latest.** Rows with the same ")[2].partition(" are the same")[0]
    assert re.split(r",\s|\sand\s", rule) == list(SAME_MEASUREMENT)


def publish(folder, files, inputs, settings):
    """Write an artefact with its manifest; return the digest of its content."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    entries = {name: {"size": len(content), "sha256": sha256(content).hexdigest()} for name, content in files.items()}
    digest = sha256(json.dumps(entries).encode()).hexdigest()
    manifest = {"inputs": inputs, "settings": settings, "code": "c" * 64, "code_version": f"commit of {folder.parent.name}"}
    manifest |= {"digest": digest, "files": entries, "counts": {}, "libraries": {}, "created_at": "2026-01-02T00:00:00Z"}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return digest


def train(workspace, name, seed, shards, **inputs):
    """Write the run of a network; return the SHA-256 of its weights file."""
    weights = f"weights of {name}".encode()
    data = {"train": shards["train"], "val": shards["val"], "colours": "d" * 64}
    publish(workspace / "runs" / name / "0123456789ab", {"weights.safetensors": weights}, data | inputs, {"seed": seed})
    return sha256(weights).hexdigest()


def predict(workspace, member, digest, split):
    """Write the predictions of a network that is right on some images, as the worker does."""
    generator = torch.Generator().manual_seed(member + 100 * (split == "test"))
    true = torch.arange(NUM_IMAGES) % len(WNIDS)
    logits = torch.randn(NUM_IMAGES, len(WNIDS), generator=generator)
    logits[torch.arange(NUM_IMAGES), true] += 1.5
    folder = workspace / "predictions" / digest[:12] / f"synthetic-{split}" / "0123456789ab"
    folder.mkdir(parents=True)
    ids = [f"{split}-{number}" for number in range(NUM_IMAGES)]
    write_part(folder / "predictions.parquet", ids, true.numpy(), logits.softmax(1), {"wnids": WNIDS, "weights": digest})
    return open_predictions(folder / "predictions.parquet")


def measure(files, digests, table, model, positions):
    """Return what one row measures."""
    answers = average(files, [Mix(positions)])[0] if len(positions) > 1 else files[positions[0]].answers()
    members, commits = tuple(digests[n] for n in positions), tuple(f"commit {n}" for n in positions)
    shares = (1 / len(members),) * len(members)
    return Measured(table, model, members, shares, None, "paper", positions[0], f"config of {positions}", commits, answers)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return a folder whose `artifacts` has shards, runs and two evaluations of seven networks, of val last."""
    root = tmp_path_factory.mktemp("demo")
    workspace = root / "artifacts"
    shards = {
        name: publish(
            workspace / "shards" / "synthetic" / name / "0123456789ab",
            {"0.tar": name.encode()},
            {"dataset": {"archive": f"{name}.tar"}},
            {"side": 256},
        )
        for name in ("train", "val", "test", "superset", "unused")
    }
    superset = shards | {"train": shards["superset"]}
    digests = [train(workspace, f"cnn-{n}", n, shards) for n in range(5)]
    for n in range(2):
        initial = train(workspace, f"pre-trained-{n}", n, superset)
        digests.append(train(workspace, f"fine-tuned-{n}", n, shards, initial=initial))
    train(workspace, "unused", 9, shards)
    for day, split in enumerate(("test", "val"), start=1):
        files = [predict(workspace, member, digest, split) for member, digest in enumerate(digests)]
        now = datetime(2026, 1, day, tzinfo=UTC)
        evaluation = Evaluation("synthetic", split, 10, "demo", shards[split], "0a1b2c", None, now)
        measured = [measure(files, digests, *row) for row in ROWS]
        write_tables(measured, evaluation, workspace / "tables")
    other = replace(evaluation, dataset="imagenet-v2-matched-frequency", split="test")
    write_shifts(shift_rows(measured, evaluation, measured, other), workspace / "tables")
    assert all((workspace / "tables" / f"{name}.parquet").exists() for name in NAMES)
    return root


def test_there_are_twelve_recipes():
    assert [number for number, _ in RECIPES] == [str(number) for number in range(1, 13)]


@pytest.fixture(scope="module")
def names(demo):
    """Return the variables after all recipes have run in order, with their output by number as `output`."""
    found, output = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(demo)
        for number, code in RECIPES:
            with contextlib.redirect_stdout(io.StringIO()) as text:
                exec(compile(code, f"recipe {number}", "exec"), found)
            output[number] = text.getvalue()
    return {**found, "output": output}


def test_every_recipe_runs_after_those_above_it_and_prints_something(names):
    for number, text in names["output"].items():
        assert text.strip(), f"recipe {number} prints nothing"
        assert "Empty" not in text
        assert "nan" not in text, f"recipe {number}: {text}"
    assert names["best"]["num_images"] == NUM_IMAGES
    assert len(names["members"]) == 7
    assert len(names["ours"]) == 22
    assert names["gain"]["difference"] > 0


def test_a_row_leads_to_weights_settings_shards_archives_and_commits(demo, names):
    assert (names["row"]["model"], names["row"]["split"]) == ("7 CNNs*", "val")
    trained, read = names["trained"], names["read"]
    runs = [*(f"cnn-{n}" for n in range(5)), *(f"{kind}-{n}" for kind in ("fine-tuned", "pre-trained") for n in range(2))]
    assert [folder.parent.name for folder in trained["folder"]] == runs
    for run in trained.itertuples():
        assert sha256((demo / run.folder / "weights.safetensors").read_bytes()).hexdigest() == run.weights
    assert [settings["seed"] for settings in trained["settings"]] == [0, 1, 2, 3, 4, 0, 1, 0, 1]
    assert [inputs["dataset"]["archive"] for inputs in read["inputs"]] == ["superset.tar", "train.tar", "val.tar"]
    printed = names["output"]["11"]
    path = "artifacts/runs/cnn-0/0123456789ab/weights.safetensors"
    for fact in ("row written by commit 0a1b2c", "commit 6", "commit of pre-trained-1", "train.tar", path):
        assert fact in printed


def test_selections_are_there_as_markdown_and_latex(demo):
    for name in ("table1", "table2", "fall2009"):
        assert "K12" in (demo / "artifacts" / "tables" / f"{name}.md").read_text("utf-8")
        assert r"\midrule" in (demo / "artifacts" / "tables" / f"{name}.tex").read_text("utf-8")


def test_the_gap_between_val_and_test_is_measured(demo):
    gaps = pd.read_parquet(demo / "artifacts" / "tables" / "gaps.parquet").query("source == 'measured' and model == '5 CNNs'")
    assert list(gaps["rank"]) == [1, 5]
    assert (gaps["gap"] == gaps["test_error"] - gaps["val_error"]).all()
    assert (gaps["gap_low"] < gaps["gap"]).all()
