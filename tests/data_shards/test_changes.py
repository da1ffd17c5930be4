"""What has changed between two sets: by the bytes of the images, whatever they are called."""

import pandas as pd
import pytest

from data_shards.changes import compare_sets, overlap


@pytest.fixture
def write_set(tmp_path):
    """Return a function that writes the lists of a set: `n1/a` is the image of the bytes `a`, in a file of some name."""

    def write(name, images, classes=("n1", "n2", "n3"), split="train"):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        pairs = [image.split("/") for image in images.split()]
        rows = [
            {"wnid": wnid, "name": f"{name}-{number}.jpg", "source_sha256": sha} for number, (wnid, sha) in enumerate(pairs)
        ]
        pd.DataFrame(rows).to_parquet(folder / "samples.parquet")
        pd.DataFrame({"wnid": classes}).to_parquet(folder / "classes.parquet")
        return folder

    return write


@pytest.mark.parametrize(
    ("now", "added", "removed", "relabelled"),
    [
        ("n1/a n1/b n2/c", 0, 0, 0),
        ("n2/c n1/b n1/a", 0, 0, 0),
        ("n1/a n1/b n2/c n3/d", 1, 0, 0),
        ("n1/a n2/c", 0, 1, 0),
        ("n1/a n2/b n2/c", 0, 0, 1),
        ("n1/a n1/b n2/b n2/c", 0, 0, 1),  # the same image in two classes
        ("n1/a n1/a n1/b n2/c", 0, 0, 0),  # twice in one class
        ("n1/x n1/y n2/z", 3, 3, 0),
    ],
)
def test_images_are_told_apart_by_their_bytes(write_set, now, added, removed, relabelled):
    found = compare_sets(write_set("before", "n1/a n1/b n2/c"), write_set("now", now))
    assert (found.added, found.removed, found.relabelled, found.num_before) == (added, removed, relabelled, 3)
    assert found.share_removed == removed / 3


def test_classes_that_come_and_go_are_named(write_set):
    found = compare_sets(write_set("before", "n1/a n2/b", ("n1", "n2")), write_set("now", "n1/a n3/c", ("n1", "n3")))
    assert (found.classes_added, found.classes_removed) == (["n3"], ["n2"])


def test_images_of_both_sets_are_named_once(write_set):
    train, val = write_set("before", "n1/a n1/b n2/b n2/c"), write_set("now", "n1/d n2/b n2/a", split="val")
    assert overlap(train, val) == [
        "train n1/before-0.jpg = val n2/now-2.jpg",
        "train n1/before-1.jpg = val n2/now-1.jpg",
    ]
    assert overlap(train, write_set("other", "n1/e", split="val")) == []
