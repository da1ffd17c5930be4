"""docs/retrieval.md lists every column with its type, and its recipes run on the tables and vectors of a workspace."""

import contextlib
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from base.progress import Silent
from model.evaluation.kernels import KERNELS, SPECIALISATION
from model.evaluation.schemas import PROVENANCE
from model.retrieval.schemas import NEIGHBOURS, RETRIEVAL
from model.retrieval.vectors import write_vectors
from tasks.job import WORK, Artifact, Share, Weights
from tasks.jobs.codes import CodesJob
from tasks.jobs.retrieve import RetrieveJob
from tasks.workers import codes, retrieve

TEXT = (Path(__file__).parents[1] / "docs" / "retrieval.md").read_text("utf-8")
RECIPES = re.findall(r"\*\*(\d+)\. .*?```python\n(.*?)```", TEXT, flags=re.DOTALL)
SCHEMAS = {"kernels": KERNELS, "specialisation": SPECIALISATION, "neighbours": NEIGHBOURS, "retrieval": RETRIEVAL}
MEMBERS = ("a" * 64, "b" * 64)
NUM_CLASSES = 5
SIZES = {"train": 100, "val": 30}


def listed(title):
    section = TEXT.partition(f"### {title}\n")[2].partition("\n##")[0]
    return re.findall(r"^\| (\w+) \| ([^|]+?) \|", section, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_is_listed_with_its_type(name):
    columns = listed(f"{name}.parquet") + listed("Provenance")
    assert columns == [(field.name, str(field.type)) for field in SCHEMAS[name]]


def test_the_provenance_is_that_of_all_tables():
    assert listed("Provenance") == [(name, str(kind)) for name, kind in PROVENANCE]


def embed(artifacts, space, split, member, generator):
    """Write vectors of images in clusters, one for each class; pixels are noise."""
    keys = [f"n{number % NUM_CLASSES:08d}_{split}_{number}" for number in range(SIZES[split])]
    if space == "pixels":
        folder, values = artifacts / "pixels", generator.integers(0, 256, (len(keys), 4 * 4 * 3), np.uint8)
    else:
        folder, spread = artifacts / "features" / member[:12], generator.normal(size=(len(keys), 40))
        centres = np.random.default_rng(0).normal(size=(NUM_CLASSES, 40))
        values = np.maximum(centres[np.arange(len(keys)) % NUM_CLASSES] + 0.8 * spread, 0).astype(np.float32)
    folder = folder / f"synthetic-{split}" / "0123456789ab"
    folder.mkdir(parents=True, exist_ok=True)
    write_vectors(folder / "part-0.arrow", keys, [key[:9] for key in keys], values, {"space": space, "weights": member})
    (folder / "manifest.json").write_text("{}")
    return Artifact(path=folder, digest=f"{space} of {split}")


def shard(folder, split):
    folder.mkdir(parents=True)
    keys = [f"n{number % NUM_CLASSES:08d}_{split}_{number}" for number in range(SIZES[split])]
    pq.write_table(pa.table({"key": keys, "source_sha256": keys}), folder / "samples.parquet")
    return Artifact(path=folder, digest=split)


def search(artifacts, member, shards, generator):
    """Make codes and rows of one network with the workers' own functions; return the folder of the rows."""
    pair = {"database": "train", "queries": "val"}
    features = {name: embed(artifacts, "features", split, member, generator) for name, split in pair.items()}
    pixels = {name: embed(artifacts, "pixels", split, "", generator) for name, split in pair.items()}
    folders = [artifacts / "codes" / member[:12], artifacts / "retrieval" / member[:12]]
    for folder in folders:
        (folder / WORK).mkdir(parents=True)
    some = {
        "methods": ("itq", "random-projection"),
        "bits": (28,),
        "seeds": (0, 1),
        "hidden": (8,),
        "epochs": 1,
        "batch_size": 32,
    }
    codes.main(CodesJob(**features, **some, name="cnn"), folders[0], Silent(), Share())
    job = RetrieveJob(
        weights=Weights(path=artifacts, digest=member),
        database_shards=shards["train"],
        query_shards=shards["val"],
        **features,
        database_pixels=pixels["database"],
        query_pixels=pixels["queries"],
        codes=Artifact(path=folders[0], digest="codes"),
        num_queries=10,
        name="cnn",
    )
    retrieve.main(job, folders[1], Silent(), Share())
    return folders[1]


@pytest.fixture(scope="module")
def threads():
    """Restore the numbers of threads that the workers set."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    yield
    torch.set_num_threads(before[0])
    faiss.omp_set_num_threads(before[1])


@pytest.fixture(scope="module")
def demo(threads, tmp_path_factory):
    """Return a folder whose `artifacts` has features, pixels, codes and two tables of two networks, each measured twice."""
    root, generator = tmp_path_factory.mktemp("demo"), np.random.default_rng(0)
    artifacts = root / "artifacts"
    shards = {split: shard(artifacts / "shards" / split, split) for split in SIZES}
    found = {member: search(artifacts, member, shards, generator) for member in MEMBERS}
    (artifacts / "tables").mkdir()
    for name, schema in (("neighbours", NEIGHBOURS), ("retrieval", RETRIEVAL)):
        rows = []
        for run in ("older", "newer"):
            for member, folder in found.items():
                same = {"dataset": "synthetic", "query_split": "val", "database_split": "train", "members": [member]}
                same |= {"preset": "demo", "run_id": run, "created_at": datetime.now(UTC)}
                rows += [{**row, **same} for row in pq.read_table(folder / f"{name}.parquet").to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), artifacts / "tables" / f"{name}.parquet")
    return root


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


def test_there_are_five_recipes():
    assert [number for number, _ in RECIPES] == [str(number) for number in range(1, 6)]


def test_every_recipe_runs_after_those_above_it_and_prints_something(names):
    for number, text in names["output"].items():
        assert text.strip(), f"recipe {number} prints nothing"
        assert "Empty" not in text
        assert "nan" not in text, f"recipe {number}: {text}"


def test_the_latest_rows_are_those_of_the_newer_run(names):
    assert set(names["rows"]["run_id"]) == {"newer"}
    assert len(names["rows"]) == 2 * (3 + 4)
    scores = names["scores"]
    assert scores.loc[("features", "itq", 28), ("map", "size")] == 4
    assert scores.loc[("features", "itq", 28), ("map", "mean")] > scores.xs("pixels").iloc[0][("map", "mean")]


def test_neighbours_are_those_of_one_network_and_one_run(names):
    assert len(names["near"]) == 10 * 6 * (3 + 4)
    assert len(names["one"]) == 6 * (3 + 4)
    assert len(names["listed"]) == 60


def test_faiss_finds_the_neighbours_that_the_table_lists(names):
    near, first = names["near"], names["first"]
    codes_of = near[(near["method"] == "itq") & (near["code_seed"] == 0) & (near["query_id"] == first["query_id"])]
    assert pd.Series(names["bits"][0]).tolist() == codes_of["distance"].tolist()
