"""The search worker as a process: a photograph to its nearest training images, through storing, cropping and embedding."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data_shards.datasets.dataset import Sample
from data_shards.datasets.synthetic import Synthetic
from data_shards.shard_set import ShardSet
from model.retrieval.vectors import open_vectors
from tasks.job import Artifact, External, Weights
from tasks.jobs.retrieve import NEIGHBOURS
from tasks.jobs.search import PICTURE, SearchJob

PLACES = (3, 57, 119)
"""Of training images in each of the three tars."""


@pytest.fixture(scope="module")
def search_job(vectors, shards, networks, write_job):
    """Return a function that writes the job of searching with image files."""

    def write(folder, paths, **changes):
        values = {
            "weights": Weights(path=networks[0], digest="0"),
            "database": vectors["features-train"],
            "database_shards": Artifact(path=shards / "train", digest="train"),
            "images": tuple(External(values={"path": str(path)}) for path in paths),
            "paths": tuple(paths),
        }
        return write_job(folder, SearchJob(**values | changes))

    return write


def photographs(shards, folder):
    """Write the source files of training images, and a large grey one; return the keys and the paths."""
    dataset, keys = Synthetic(train_per_class=6, val_per_class=2), ShardSet.open(shards / "train").samples["key"]
    paths = [folder / f"{number}.jpg" for number in range(len(PLACES))]
    for path, place in zip(paths, PLACES, strict=True):
        name = f"{keys.iloc[place].removesuffix('.JPEG')}.JPEG"
        path.write_bytes(dataset.read(Sample(name.split("_")[0], name, path=name)))
    data = io.BytesIO()
    Image.new("L", (300, 200), 90).save(data, "PNG")
    (folder / "grey.png").write_bytes(data.getvalue())
    return list(keys.iloc[list(PLACES)]), [*paths, folder / "grey.png"]


@pytest.fixture(scope="module")
def ended(search_job, embed_job, networks, shards, in_turn, tmp_path_factory):
    """Return the folder in which jobs have run, why each was refused, and the keys of the photographs."""
    root = tmp_path_factory.mktemp("ended")
    keys, paths = photographs(shards, root)
    (root / "text.jpg").write_text("not a photograph")
    half = Artifact(path=root / "half", digest="half")
    embed = embed_job(root / "half", networks[0], dtype="float16")
    cases = [
        [("search", search_job(root / "all", paths))],
        [("search", search_job(root / "one", paths[1:2], num_neighbours=3))],
        [("embed", embed), ("search", search_job(root / "rounded", paths, database=half))],
        [("search", search_job(root / "text", [paths[0], root / "text.jpg"]))],
        [("search", search_job(root / "many", paths[:1], num_neighbours=121))],
    ]
    return root, in_turn(*cases), keys


def test_a_training_image_finds_itself_at_distance_zero(ended):
    root, ends, keys = ended
    assert ends[:3] == [None] * 3
    found = pd.read_parquet(root / "all" / NEIGHBOURS)
    first = found[found["rank"] == 1][: len(PLACES)]
    assert list(first["neighbour_id"]) == keys
    assert list(first["image"]) == [str(root / f"{number}.jpg") for number in range(len(PLACES))]
    assert first["distance"].tolist() == [0, 0, 0]
    rounded = pd.read_parquet(root / "rounded" / NEIGHBOURS)
    assert rounded[rounded["rank"] == 1]["distance"].tolist()[:3] == [0, 0, 0]


def test_neighbours_are_those_of_the_features(ended, vectors, shards):
    root, _, _ = ended
    database = open_vectors(sorted(vectors["features-train"].path.glob("*.arrow")))
    features, keys = database.read().astype(np.float64), database.keys.to_pylist()
    found = pd.read_parquet(root / "all" / NEIGHBOURS)
    classes = ShardSet.open(shards / "train").classes.set_index("wnid")["words"]
    for number, place in enumerate(PLACES):
        distances = np.sqrt(np.square(features - features[place]).sum(axis=1))
        rows = found[found["image"] == str(root / f"{number}.jpg")]
        order = np.lexsort((np.array(keys), distances))[:6]
        assert list(rows["neighbour_id"]) == [keys[row] for row in order]
        np.testing.assert_allclose(rows["distance"], distances[order], rtol=1e-12)
        assert list(rows["neighbour_wnid"]) == [key.split("_")[0] for key in rows["neighbour_id"]]
        assert list(rows["words"]) == [classes[wnid] for wnid in rows["neighbour_wnid"]]


def test_other_photographs_change_no_neighbour(ended):
    alone, among = (pd.read_parquet(ended[0] / name / NEIGHBOURS) for name in ("one", "all"))
    pd.testing.assert_frame_equal(alone, among[among["image"] == alone["image"][0]][:3].reset_index(drop=True))


def test_a_picture_shows_each_photograph_with_its_neighbours(ended):
    with Image.open(ended[0] / "all" / PICTURE) as four, Image.open(ended[0] / "one" / PICTURE) as one:
        assert four.width > one.width  # six neighbours and three
        assert four.height == 4 * one.height


@pytest.mark.parametrize(
    ("number", "name", "message"),
    [
        (3, "text", r"\S*text.jpg cannot be decoded: .*"),
        (4, "many", "121 neighbours were asked for and the database has 120 images"),
    ],
)
def test_what_cannot_be_searched_with_is_refused_in_one_sentence(ended, number, name, message):
    root, ends, _ = ended
    assert re.fullmatch(message, ends[number]), ends[number]
    assert not (root / name / NEIGHBOURS).exists()
