"""Section 6.1 as a step: what it refuses before any work, and the names in the key of a search."""

import pandas as pd
import pytest

from base.errors import InputError
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.planning import ShardConfig, plan_shards
from data_shards.writing import write_shard
from model.retrieval.config import RetrievalConfig
from tasks.compute import Compute
from tasks.job import Artifact, External, Weights
from tasks.jobs.search import SearchJob
from tasks.section6 import write_section6
from tasks.workspace import Workspace


@pytest.fixture
def val(tmp_path):
    """Return a folder of twenty drawn images."""
    directory, work = tmp_path / "val", tmp_path / "work"
    directory.mkdir()
    work.mkdir()
    dataset, config = Synthetic(train_per_class=1, val_per_class=1), ShardConfig(storage="square72")
    for plan in plan_shards(dataset, "val", config, work):
        write_shard(dataset, plan, config, directory, work)
    write_lists(dataset, directory, work)
    return directory


def begin(val, tmp_path, images=()):
    made = Artifact(path=val, digest="val")
    compute, config = Compute(devices=("cpu",), num_threads=1, at_once=1), RetrievalConfig()
    shards = {"train": made, "val": made}
    return write_section6(
        "demo", {}, shards, "val", made, "table2", config, compute, Workspace(path=tmp_path / "workspace"), images
    )


def test_queries_without_labels_are_refused_before_any_work(val, tmp_path):
    samples = pd.read_parquet(val / "samples.parquet")
    samples["class_index"] = pd.array([None] * len(samples), "Int32")
    samples["wnid"] = None
    samples.to_parquet(val / "samples.parquet")
    with pytest.raises(InputError, match="val have no labels to score neighbours by; choose another split$"):
        begin(val, tmp_path)


def test_an_image_that_is_not_there_is_refused_before_any_work(val, tmp_path):
    with pytest.raises(InputError, match=r"no image n1_2.JPEG in .*val; expected a key such as n9\d+_val_\d+"):
        begin(val, tmp_path, ("n1_2.JPEG",))
    assert not (tmp_path / "workspace").exists()


def test_a_copy_of_a_photograph_is_searched_under_its_own_name(tmp_path):
    made = Artifact(path=tmp_path, digest="made")
    same = {"weights": Weights(path=tmp_path, digest="w"), "database": made, "database_shards": made}
    first, second = (SearchJob(**same, images=(External(values={}),), paths=(tmp_path / name,)) for name in ("a.jpg", "b.jpg"))
    assert first.settings != second.settings
