"""The worker of the report as a process: the same page and figures each time, killed or not."""

import json
import re
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_shards.shard_set import ShardSet
from model.evaluation.schemas import ERROR_RATES
from model.retrieval.schemas import RETRIEVAL as RETRIEVAL_COLUMNS
from tasks.job import Artifact, External, Weights
from tasks.jobs.codes import CodesJob
from tasks.jobs.predict import PredictJob
from tasks.jobs.report import FIGURES, ReportJob
from tasks.jobs.retrieve import NEIGHBOURS, RETRIEVAL, RetrieveJob

NUM_LISTED = 12
SHOWN = [["features", "l2", None], ["pixels", "l2", None], ["features", "autoencoder", 28]]


@pytest.fixture(scope="module")
def measured(vectors, shards, networks, write_job, in_turn, tmp_path_factory):
    """Return what a report reads: predictions, neighbours by codes of two lengths and two seeds, a run and a table."""
    root, weights = tmp_path_factory.mktemp("measured"), Weights(path=networks[0], digest="0")
    train, val = (Artifact(path=shards / split, digest=split) for split in ("train", "val"))
    features = {"database": vectors["features-train"], "queries": vectors["features-val"]}
    pixels = {"database_pixels": vectors["pixels-train"], "query_pixels": vectors["pixels-val"]}
    made = {"codes": Artifact(path=root / "codes", digest="codes"), "num_queries": NUM_LISTED}
    few = {"methods": ("autoencoder", "itq"), "bits": (64, 28), "seeds": (1, 0), "hidden": (8,), "epochs": 1, "batch_size": 32}
    same = {"dataset": "synthetic", "split": "val", "views": 1, "about": {"dataset": "synthetic", "split": "val"}}
    predict = write_job(root / "predictions", PredictJob(weights=weights, shards=val, **same))
    retrieve = RetrieveJob(
        weights=weights, query_shards=val, database_shards=train, **features, **pixels, **made, name="CNN, seed 0"
    )
    commands = [
        ("codes", write_job(root / "codes", CodesJob(**features, **few, name="cnn"))),
        ("predict", predict, "0/1"),
        ("join", predict),
        ("retrieve", write_job(root / "retrieval", retrieve)),
    ]
    assert in_turn(commands) == [None]
    (root / "run").mkdir()
    epochs = {"epoch": [1, 2], "loss": [3.0, 2.5], "val_top1_wrong": [38, 37], "val_num_images": [40, 40]}
    pd.DataFrame(epochs).to_parquet(root / "run" / "metrics.parquet")
    (root / "tables").mkdir()
    rows = pq.read_table(root / "retrieval" / RETRIEVAL).to_pylist()
    known = {"dataset": "synthetic", "query_split": "val", "database_split": "train", "members": ["0"], "shards": "val"}
    known |= {"weights_code_versions": ["0123456"], "code_version": "0123456", "config": "c", "created_at": datetime.now(UTC)}
    table = pa.Table.from_pylist([{**row, **known} for row in rows], schema=RETRIEVAL_COLUMNS)
    pq.write_table(table, root / "tables" / "retrieval.parquet")
    pq.write_table(ERROR_RATES.empty_table(), root / "tables" / "error_rates.parquet")
    return root


@pytest.fixture(scope="module")
def report_job(measured, shards, networks, write_job):
    """Return a function that writes the job of a report, with single fields of it changed."""
    made = {kind: Artifact(path=measured / kind, digest=kind) for kind in ("predictions", "retrieval", "run")}
    pair = {name: Artifact(path=shards / split, digest=split) for name, split in (("database", "train"), ("query", "val"))}
    values = {
        "weights": tuple(Weights(path=path, digest=path.stem) for path in networks),
        "runs": {"CNN, seed 0": made["run"]},
        "names": ("CNN, seed 0", "CNN, seed 1"),
        **{f"{name}_shards": artifact for name, artifact in pair.items()},
        "predictions": made["predictions"],
        "retrieved": made["retrieval"],
        "tables": External(values={}),
        "table": "table2",
        "name": "demo",
        "tables_dir": measured / "tables",
    }
    return lambda folder, **changes: write_job(folder, ReportJob(**values | changes))


@pytest.fixture(scope="module")
def ended(report_job, shards, kill_at, in_turn, tmp_path_factory):
    """Return the folder in which jobs have run, and why each was refused."""
    root = tmp_path_factory.mktemp("ended")
    keys = tuple(ShardSet.open(shards / "val").samples["key"][[7, 3]])
    jobs = [report_job(root / "killed"), report_job(root / "whole")]
    kill_at("report", 21, jobs[0])
    assert list((root / "killed" / "strips").glob("*.jpg"))
    assert list((root / "killed" / "strips").glob("*.partial"))
    jobs.append(report_job(root / "chosen", images=keys, retrieved=None, database_shards=None, runs={}))
    jobs.append(report_job(root / "unknown", images=("n123_4.JPEG",)))
    return root, in_turn(*([("report", job)] for job in jobs)), keys


def files(folder):
    """Return the bytes of every file of a finished report, without what a killed worker left: publishing deletes that."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial")
    paths = (path for path in found if path.name not in ("job.json", "counts.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def page_of(folder):
    """Return the HTML, and the data of its script."""
    html = (folder / "index.html").read_text("utf-8")
    data = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', html, re.DOTALL)
    assert data is not None, html[:2000]
    return html, json.loads(data[1])


def test_the_page_and_all_figures_are_written(ended):
    root, ends, _ = ended
    assert ends[:-1] == [None] * 3
    names = set(files(root / "whole"))
    assert names == {
        "index.html",
        *(f"{figure}.{kind}" for figure in FIGURES for kind in ("png", "pdf")),
        *(f"kernels/{number}.png" for number in range(2)),
        *(f"panels/{number}.jpg" for number in range(8)),
        *(f"strips/{number}.jpg" for number in range(NUM_LISTED)),
    }
    counts = json.loads((root / "whole" / "counts.json").read_text())
    assert counts == {"networks": 2, "panels": 8, "queries": NUM_LISTED}


def test_written_twice_and_once_killed_it_ends_with_the_same_bytes(ended):
    found, expected = files(ended[0] / "killed"), files(ended[0] / "whole")
    assert found.keys() == expected.keys()
    assert [path for path in found if found[path] != expected[path]] == []


def test_the_page_shows_neighbours_by_features_by_pixels_and_by_the_shortest_codes_of_one_seed(ended, measured):
    html, data = page_of(ended[0] / "whole")
    assert data["kinds"] == SHOWN
    listed = pd.read_parquet(measured / "retrieval" / NEIGHBOURS)
    assert sorted(row[0] for row in data["rows"]) == sorted(listed["query_id"].unique())
    codes = listed[(listed["method"] == "autoencoder") & (listed["bits"] == 28) & (listed["code_seed"] == 0)]
    for key, _, _, _, (_, _, by_codes) in data["rows"]:
        expected = codes[codes["query_id"] == key].sort_values("rank")
        assert [neighbour[0] for neighbour in by_codes] == list(expected["neighbour_id"])
    assert "CNN, seed 0" in html


def test_panels_show_the_images_that_were_asked_for(ended, shards):
    root, _, keys = ended
    assert len(list((root / "chosen" / "panels").iterdir())) == 2
    samples = ShardSet.open(shards / "val")
    words = dict(zip(samples.classes["wnid"], samples.classes["words"], strict=True))
    html, _ = page_of(root / "chosen")
    places = [html.index(words[key.split("_")[0]], html.index(f"panels/{number}.jpg")) for number, key in enumerate(keys)]
    assert places == sorted(places)


def test_without_neighbours_the_rest_is_shown(ended):
    names = set(files(ended[0] / "chosen"))
    assert "index.html" in names
    assert not [name for name in names if name.startswith(("strips/", "figure4-right"))]
    assert {"figure3.pdf", "figure4-left.pdf"} <= names


def test_an_image_that_is_not_there_is_refused_in_one_sentence(ended):
    message = r"no image n123_4.JPEG in .*val; expected a key such as n9\d+_val_\d+\S*"
    assert re.fullmatch(message, ended[1][-1]), ended[1][-1]
    assert not (ended[0] / "unknown" / "index.html").exists()
