"""The competition's synsets: the real devkit of 2010 if it is available, small ones, and files that are refused."""

import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from base.errors import InputError
from data_shards.datasets.devkit import Devkit, parse_ground_truth, parse_meta

REAL = Path(__file__).parents[4] / "shared" / "data" / "ILSVRC2010_devkit-1.0.tar.gz"


@pytest.fixture(scope="module")
def real() -> dict[str, bytes]:
    """Return the files of the real devkit of 2010 by name."""
    if not REAL.is_file():
        pytest.skip(f"no {REAL}: the devkit of ILSVRC-2010, which is not distributed")
    with tarfile.open(REAL) as opened:
        return {Path(member.name).name: opened.extractfile(member).read() for member in opened if member.isfile()}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def real_devkit(real: dict[str, bytes]) -> Devkit:
    return parse_meta(real["meta.mat"], "meta.mat")


def test_the_real_devkit_has_a_thousand_leaves_of_its_1676_synsets(real_devkit: Devkit) -> None:
    assert (len(real_devkit.synsets), len(real_devkit.leaves)) == (1_676, 1_000)
    assert sum(synset.num_train_images for synset in real_devkit.leaves) == 1_261_406
    assert {synset.num_train_images for synset in real_devkit.leaves} >= {668, 3_047}
    first, root = real_devkit.synsets[0], real_devkit.synsets[1_000]
    assert (first.ilsvrc_id, first.wnid, first.num_children, first.children) == (1, "n07711080", 0, ())
    assert first.words == "french fries, french-fried potatoes, fries, chips"
    assert (root.ilsvrc_id, root.words, root.children, root.wordnet_height) == (1_001, "entity", (1_002, 1_667), 19)
    assert real_devkit.ilsvrc_ids["n07711080"] == 1
    assert real_devkit.wnids == sorted(real_devkit.ilsvrc_ids)
    assert real_devkit.wnids != [synset.wnid for synset in real_devkit.leaves]


def test_the_real_hierarchy_reaches_every_synset_from_its_root(real_devkit: Devkit) -> None:
    reached, waiting = set(), [1_001]
    while waiting:
        ilsvrc_id = waiting.pop()
        if ilsvrc_id not in reached:
            reached.add(ilsvrc_id)
            waiting += real_devkit.synsets[ilsvrc_id - 1].children
    assert reached == set(range(1, 1_677))


def test_the_real_costs_are_a_distance(real_devkit: Devkit) -> None:
    costs = real_devkit.cost_matrix
    assert costs is not None
    assert costs.shape == (1_000, 1_000)
    assert (costs == costs.T).all()
    assert ((costs == 0) == np.eye(1_000, dtype=bool)).all()
    assert costs.max() == 18


def test_the_real_truth_has_fifty_images_of_each_leaf(real: dict[str, bytes], real_devkit: Devkit) -> None:
    name = "ILSVRC2010_validation_ground_truth.txt"
    wnids = parse_ground_truth(real[name].decode("ascii"), real_devkit, 50_000, name)
    assert Counter(wnids) == Counter(dict.fromkeys(real_devkit.wnids, 50))
    first = int(real[name].split()[0])
    assert real_devkit.ilsvrc_ids[wnids[0]] == first


@pytest.mark.parametrize("year", [2010, 2012])
def test_a_small_devkit_is_read_as_it_was_written(year: int, meta: Callable[..., bytes]) -> None:
    devkit = parse_meta(meta(year), "meta.mat")
    assert [synset.wnid for synset in devkit.leaves] == ["n02487347", "n01440764", "n07711080", "n01443537", "n03000134"]
    assert devkit.wnids == ["n01440764", "n01443537", "n02487347", "n03000134", "n07711080"]
    assert [synset.children for synset in devkit.synsets[4:]] == [(), (7, 1, 2), (3, 4, 5)]
    assert [synset.wordnet_height for synset in devkit.synsets[4:]] == [0, 2, 1]
    assert devkit.synsets[2].gloss == "what 2 is"
    assert (devkit.cost_matrix is None) == (year == 2012)


def changed(meta: Callable[..., bytes], field: str, values: dict[int, Any], year: int = 2012) -> bytes:
    """Return a meta.mat in which a field of some synsets has another value."""
    synsets = scipy.io.loadmat(io.BytesIO(meta(year)))["synsets"]
    for place, value in values.items():
        synsets[place, 0][field] = value
    return meta(year, synsets=synsets)


NO_META = "^meta.mat of X has no array `synsets` with ILSVRC IDs and WNID, words, .*; expected the devkit's meta.mat$"
UNREADABLE = r"^meta.mat of X is not a MATLAB file that can be read \(.+\); expected the devkit's meta.mat$"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda meta: b"", UNREADABLE),
        (lambda meta: b"not a MATLAB file at all\n" * 40, UNREADABLE),
        (lambda meta: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400), UNREADABLE),
        (lambda meta: meta(2012)[:300], UNREADABLE),
        (lambda meta: meta(2012)[:-40], UNREADABLE),
        (lambda meta: meta(2012, synsets=np.arange(7)), NO_META),
        (lambda meta: meta(2012, synsets={"WNID": "n01440764"}), NO_META),
        (lambda meta: meta(2012, synsets="words"), NO_META),
        (
            lambda meta: changed(meta, "ILSVRC2012_ID", {1: 7}),
            "^meta.mat of X: the ILSVRC IDs do not count from 1 to 7; expected",
        ),
        (
            lambda meta: changed(meta, "ILSVRC2012_ID", {1: "two"}),
            r"^meta.mat of X: synset 2 cannot be read \(.*\); expected",
        ),
        (lambda meta: changed(meta, "num_children", {2: np.eye(2)}), "^meta.mat of X: synset 3 cannot be read"),
        (
            lambda meta: changed(meta, "WNID", {1: "n07711080"}),
            "^meta.mat of X: the leaves do not come first, each once; expected",
        ),
        (lambda meta: changed(meta, "num_children", {1: 2}), "^meta.mat of X: the leaves do not come first, each once"),
        (
            lambda meta: changed(meta, "num_children", dict.fromkeys(range(7), 1)),
            "^meta.mat of X: the leaves do not come first",
        ),
        (
            lambda meta: meta(2010, cost_matrix=None),
            "^meta.mat of X has no `cost_matrix`, which that of 2010 has; it was cut short",
        ),
        (
            lambda meta: meta(2010, cost_matrix=np.eye(4)),
            r"^meta.mat of X has a cost matrix of shape \(4, 4\) for 5 leaves; expected",
        ),
    ],
)
def test_a_file_that_is_not_a_devkit_is_refused(
    make: Callable[[Callable[..., bytes]], bytes], message: str, meta: Callable[..., bytes]
) -> None:
    with pytest.raises(InputError, match=message):
        parse_meta(make(meta), "meta.mat of X")


def test_every_cut_of_a_meta_mat_is_one_sentence(meta: Callable[..., bytes]) -> None:
    whole = meta(2010)
    for keep in range(0, len(whole), 23):
        with pytest.raises(InputError, match="^cut .*expected the devkit's meta.mat$|^cut has no `cost_matrix`"):
            parse_meta(whole[:keep], "cut")
