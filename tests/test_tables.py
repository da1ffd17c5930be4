"""docs/tables.md: every column is named with its type, and every recipe runs."""

import re

import pytest
import torch

from model.evaluation.predictions import write_part
from model.evaluation.tables import COMPARISONS, GAPS, PER_CLASS, SCHEMA
from tasks.artifacts import ROOT, Artifact
from tasks.tabulate import RowPlan, Scope, write_error_rates
from tasks.train import Weights

TEXT = (ROOT / "docs" / "tables.md").read_text("utf-8")
RECIPES = re.findall(r"\*\*(\d+)\. .*?```python\n(.*?)```", TEXT, flags=re.DOTALL)
SCHEMAS = {"error_rates": SCHEMA, "comparisons": COMPARISONS, "per_class": PER_CLASS, "gaps": GAPS}
NUM_IMAGES, WNIDS = 300, [f"n{number:08d}" for number in range(20)]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_is_named_with_its_type(name):
    section = TEXT.partition(f"## {name}.parquet")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| (\w+) \| ([^|]+?) \|", section, flags=re.MULTILINE)[1:]
    assert listed == [(field.name, str(field.type)) for field in SCHEMAS[name]]


def predict(workspace, member, split):
    """A network that is right on some images, as the worker leaves it."""
    generator = torch.Generator().manual_seed(member + 100 * (split == "test"))
    true = torch.arange(NUM_IMAGES) % len(WNIDS)
    logits = torch.randn(NUM_IMAGES, len(WNIDS), generator=generator)
    logits[torch.arange(NUM_IMAGES), true] += 1.5
    digest = f"{member:064d}"[::-1]
    folder = workspace / "predictions" / digest[:12] / f"synthetic-{split}" / "0123456789ab"
    folder.mkdir(parents=True)
    ids = [f"{split}-{number}" for number in range(NUM_IMAGES)]
    about = {"wnids": WNIDS, "weights": digest}
    write_part(folder / "predictions.parquet", ids, true.numpy(), logits.softmax(1), about)
    return Artifact(path=folder, digest=digest, counts={}), Weights(path=folder, digest=digest)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder in which `artifacts` holds what two evaluations of seven networks left, of val last."""
    root = tmp_path_factory.mktemp("demo")
    plans = [
        RowPlan(table="table2", model="1 CNN", members=(0,)),
        RowPlan(table="table2", model="5 CNNs", members=(0, 1, 2, 3, 4)),
        RowPlan(table="table2", model="1 CNN*", members=(5,)),
        RowPlan(table="table2", model="7 CNNs*", members=tuple(range(7))),
        *(RowPlan(table="members", model=f"CNN{'*' * (n > 4)}, seed {n % 5}", members=(n,)) for n in range(7)),
    ]
    for split in ("test", "val"):
        made = [predict(root / "artifacts", member, split) for member in range(7)]
        scope = Scope(dataset="synthetic", split=split, views=10, shards=split, recipe="demo", config="c")
        record = write_error_rates.fn(plans, *map(list, zip(*made, strict=True)), scope, root / "artifacts")
        assert all(path.exists() for path in record.paths)
    return root


def test_there_are_ten_recipes():
    assert [number for number, _ in RECIPES] == [str(number) for number in range(1, 11)]


def test_every_recipe_runs_after_those_above_it_and_says_something(demo, monkeypatch, capsys):
    monkeypatch.chdir(demo)
    names = {}
    for number, code in RECIPES:
        exec(compile(code, f"recipe {number}", "exec"), names)
        said = capsys.readouterr().out
        assert said.strip(), f"recipe {number} prints nothing"
        assert "Empty" not in said
        assert "nan" not in said, f"recipe {number}: {said}"
    assert names["best"]["num_images"] == NUM_IMAGES
    assert len(names["members"]) == 7
    assert len(names["ours"]) == 22
    assert names["gain"]["difference"] > 0


def test_selections_are_there_as_markdown_and_latex(demo):
    for name in ("table1", "table2", "fall2009"):
        assert "K12" in (demo / "artifacts" / "tables" / f"{name}.md").read_text("utf-8")
        assert r"\midrule" in (demo / "artifacts" / "tables" / f"{name}.tex").read_text("utf-8")


def test_the_gap_between_val_and_test_is_measured(demo):
    import pandas as pd

    gaps = pd.read_parquet(demo / "artifacts" / "tables" / "gaps.parquet").query("source == 'measured' and model == '5 CNNs'")
    assert list(gaps["rank"]) == [1, 5]
    assert (gaps["gap"] == gaps["test_error"] - gaps["val_error"]).all()
    assert (gaps["gap_low"] < gaps["gap"]).all()
