"""The worker of neighbours as a process: its rows against brute force in float64, and images that are queries and database."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from base.progress import parse
from model.retrieval.hamming import unpack
from model.retrieval.schemas import NEIGHBOURS as NEIGHBOUR_COLUMNS
from model.retrieval.schemas import RETRIEVAL as RETRIEVAL_COLUMNS
from model.retrieval.vectors import open_vectors
from tasks.job import Artifact, Weights
from tasks.jobs.codes import DATABASE, QUERIES, CodesJob
from tasks.jobs.retrieve import NEIGHBOURS, RETRIEVAL, RetrieveJob

CODES = {"methods": ("itq", "random-projection"), "bits": (28,), "seeds": (0, 1), "hidden": (8,), "epochs": 1, "batch_size": 32}
PAIR = ("again", "twin")


@pytest.fixture(scope="module")
def ended(vectors, shards, networks, write_job, run_in_turn, tmp_path_factory):
    """Return the folder in which jobs have run."""
    root = tmp_path_factory.mktemp("ended")
    features = {"database": vectors["features-train"], "queries": vectors["features-val"]}
    pixels = {"database_pixels": vectors["pixels-train"], "query_pixels": vectors["pixels-val"]}
    pair = {"database_shards": Artifact(path=shards / "train", digest="train")}
    pair["query_shards"] = Artifact(path=shards / "val", digest="val")
    made = Artifact(path=root / "codes", digest="codes")
    same = {"weights": Weights(path=networks[0], digest="0"), **pair, **features, "name": "cnn"}
    in_blocks = RetrieveJob(**same, **pixels, codes=made, queries_at_once=7)
    cases = [
        [
            ("codes", write_job(root / "codes", CodesJob(**features, **CODES, name="cnn"))),
            ("retrieve", write_job(root / "all", RetrieveJob(**same, **pixels, codes=made))),
        ],
        [("retrieve", *(write_job(root / name, RetrieveJob(**same, **pixels, codes=made, num_threads=3)) for name in PAIR))],
        [
            *(("rank", write_job(root / "blocks", in_blocks), share) for share in ("0/3", "1/3")),
            ("retrieve", root / "blocks" / "job.json"),
        ],
        [("retrieve", write_job(root / "few", RetrieveJob(**same, num_queries=5)))],
        [("retrieve", write_job(root / "shared", RetrieveJob(**same | {"database_shards": pair["query_shards"]})))],
    ]
    ends, said = run_in_turn(*cases)
    (root / "ends").write_text(json.dumps(ends))
    messages = [parse(line) for line in said.splitlines() if '"rankings"' in line]
    (root / "progress").write_text(json.dumps([(message.done, message.total) for message in messages]))
    return root


def read(artifact):
    return open_vectors(sorted(artifact.path.glob("*.arrow")))


def ranked(distances, keys):
    """Return for each query all rows, the nearest first, those at the same distance by their keys."""
    return np.stack([np.lexsort((np.array(keys), row)) for row in distances])


def brute_force(vectors, kind):
    """Return squared distances (Q, N) in float64, one pair at a time."""
    queries, database = (read(vectors[f"{kind}-{split}"]).read().astype(np.float64) for split in ("val", "train"))
    return np.stack([np.square(database - query).sum(axis=1) for query in queries])


def rows_of(folder, **values):
    rows = pd.read_parquet(folder / NEIGHBOURS)
    for name, value in values.items():
        rows = rows[rows[name] == value]
    return rows


def test_jobs_that_fit_have_both_tables(ended):
    assert json.loads((ended / "ends").read_text())[:4] == [None] * 4
    for name in ("all", "again", "blocks", "few"):
        assert pq.read_schema(ended / name / NEIGHBOURS).equals(NEIGHBOUR_COLUMNS)
        assert pq.read_schema(ended / name / RETRIEVAL).equals(RETRIEVAL_COLUMNS)
    scores = pd.read_parquet(ended / "all" / RETRIEVAL)
    kinds = list(zip(scores["space"], scores["method"], scores["bits"].fillna(0), scores["code_seed"].fillna(-1), strict=True))
    exact = [("features", "l2", 0, -1), ("features", "cosine", 0, -1), ("pixels", "l2", 0, -1)]
    codes = [("features", method, 28, seed) for method in ("itq", "random-projection") for seed in (0, 1)]
    assert kinds == exact + codes
    assert json.loads((ended / "all" / "counts.json").read_text()) == {"queries": 40, "database": 120, "rankings": 7}
    assert (scores["num_queries"] == 40).all()
    assert (scores["num_database"] == 120).all()


def test_progress_counts_rankings_up_to_a_total_that_is_known(ended):
    progress = [tuple(pair) for pair in json.loads((ended / "progress").read_text())]
    assert {total for _, total in progress} == {7, 2 * 7, 6 * 7, 2}
    assert {(7, 7), (14, 14)} <= set(progress)  # two jobs of one process are parts of a whole
    assert progress.count((14, 14)) == 3, "so are two of six blocks, for each of two processes"
    assert progress.count((28, 42)) == progress.count((42, 42)) == 1, "and what is missing is ranked at the end"
    assert progress[-2:] == [(2, 2), (0, 2)], "the last job is refused"


@pytest.mark.parametrize("other", [*PAIR, "blocks"])
@pytest.mark.parametrize("name", [NEIGHBOURS, RETRIEVAL])
def test_threads_jobs_in_the_same_process_and_blocks_of_queries_change_no_byte(ended, name, other):
    assert (ended / other / name).read_bytes() == (ended / "all" / name).read_bytes()


def test_a_single_block_needs_no_process_of_its_own(ended):
    job = RetrieveJob.model_validate_json((ended / "all" / "job.json").read_bytes())
    units = [
        job.model_copy(update={"queries": job.queries.model_copy(update={"counts": {"images": num}})}).num_units(ended)
        for num in (1, 1024, 1025, 50_000)
    ]
    assert units == [0, 0, 2, 49]


@pytest.mark.parametrize("space", ["features", "pixels"])
def test_neighbours_are_those_of_brute_force(ended, vectors, space):
    distances, keys = brute_force(vectors, space), read(vectors["features-train"]).keys.to_pylist()
    order = ranked(distances, keys)[:, :6]
    found = rows_of(ended / "all", space=space, method="l2")
    assert list(found["query_id"]) == np.repeat(read(vectors["features-val"]).keys.to_pylist(), 6).tolist()
    assert list(found["neighbour_id"]) == [keys[row] for row in order.ravel()]
    expected = np.sqrt(np.take_along_axis(distances, order, axis=1))
    np.testing.assert_allclose(found["distance"].to_numpy().reshape(-1, 6), expected, rtol=1e-12)
    assert found["rank"].tolist() == [1, 2, 3, 4, 5, 6] * 40


def test_feature_neighbours_have_their_rank_and_distance_by_pixels(ended, vectors):
    by_features, by_pixels = brute_force(vectors, "features"), brute_force(vectors, "pixels")
    order = ranked(by_features, read(vectors["features-train"]).keys.to_pylist())[:, :6]
    squares = np.take_along_axis(by_pixels, order, axis=1)
    ranks = 1 + (by_pixels[:, None, :] < squares[:, :, None]).sum(axis=2)
    found = rows_of(ended / "all", space="features", method="l2")
    assert np.array_equal(found["pixel_rank"].to_numpy().reshape(-1, 6), ranks)
    np.testing.assert_allclose(found["pixel_distance"].to_numpy().reshape(-1, 6), np.sqrt(squares), rtol=1e-12)
    score = pd.read_parquet(ended / "all" / RETRIEVAL).iloc[0]
    assert (score["pixel_rank_median"], score["pixel_top6_share"]) == (np.median(ranks), (ranks <= 6).mean())
    assert rows_of(ended / "all", space="pixels")["pixel_rank"].isna().all()


@pytest.mark.parametrize("method", ["itq", "random-projection"])
def test_neighbours_by_codes_are_those_of_brute_force(ended, method):
    folder = ended / "codes" / f"{method}-28-1"
    queries, database = (open_vectors([folder / name]) for name in (QUERIES, DATABASE))
    bits = [unpack(some.read(), 28) for some in (queries, database)]
    distances = (bits[0][:, None] != bits[1]).sum(axis=2)
    keys = database.keys.to_pylist()
    order = ranked(distances, keys)[:, :6]
    found = rows_of(ended / "all", method=method, code_seed=1)
    assert list(found["neighbour_id"]) == [keys[row] for row in order.ravel()]
    nearest = np.take_along_axis(distances, order, axis=1)
    assert np.array_equal(found["distance"].to_numpy().reshape(-1, 6), nearest)
    tied = (distances[:, None, :] == nearest[:, :, None]).sum(axis=2)
    assert np.array_equal(found["num_tied"].to_numpy().reshape(-1, 6), tied)


def test_mean_average_precision_is_that_of_brute_force(ended, vectors):
    queries, database = (read(vectors[f"features-{split}"]) for split in ("val", "train"))
    order = ranked(brute_force(vectors, "features"), database.keys.to_pylist())
    wnids = np.array(database.wnids.to_pylist())
    right = wnids[order] == np.array(queries.wnids.to_pylist())[:, None]
    precisions = right.cumsum(axis=1) / np.arange(1, 121)
    score = pd.read_parquet(ended / "all" / RETRIEVAL).iloc[0]
    assert score["map"] == pytest.approx((precisions * right).sum(axis=1).mean() / 6)
    assert score["p6"] == pytest.approx(right[:, :6].mean())
    assert score["recall6_at_6"] == 1
    assert score["map_low"] <= score["map"] <= score["map_high"]


def test_a_few_queries_are_listed_from_all_classes_and_all_are_scored(ended, vectors):
    listed = rows_of(ended / "few")
    keys = sorted(read(vectors["features-val"]).keys.to_pylist())
    assert sorted(listed["query_id"].unique()) == [keys[0], keys[10], keys[20], keys[29], keys[39]]
    whole, few = (pd.read_parquet(ended / name / RETRIEVAL) for name in ("all", "few"))
    assert few["map"].tolist() == whole["map"].tolist()[:2]
    assert listed["pixel_rank"].isna().all()


def test_queries_that_are_images_of_the_database_are_refused(ended):
    end = json.loads((ended / "ends").read_text())[4]
    key = r"n9\d+_val_\d+"
    message = (
        rf"40 of 40 queries are images of the database \({key}\S* is {key}\S*, .*…\); leave them out, or search another split"
    )
    assert re.fullmatch(message, end), end
    assert not (ended / "shared" / NEIGHBOURS).exists()
