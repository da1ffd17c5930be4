"""Samples to a plan: each once, under a key of its own, and the same plan for the same samples and seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from base.errors import InputError
from data_shards.datasets.dataset import Dataset, ImageClass, Sample, Split, as_table
from data_shards.datasets.fall import FALL2011, Fall
from data_shards.datasets.members import MEMBERS
from data_shards.datasets.synthetic import Synthetic
from data_shards.planning import Plan, ShardConfig, plan_shards, sample_keys

TINY = Synthetic(train_per_class=1, val_per_class=1, side=64)


class Listed(Dataset):
    """Samples as they are given."""

    name = "listed"

    def __init__(self, samples: list[Sample], wnids: list[str]) -> None:
        self.listed, self.wnids = samples, wnids

    def classes(self) -> list[ImageClass]:
        return [ImageClass(wnid, wnid) for wnid in self.wnids]

    def samples(self, split: Split) -> pa.Table:
        return as_table(self.listed)

    def identity(self, split: Split) -> dict[str, Any]:
        return {}


def sample(name: str, wnid: str | None = "n01443537") -> Sample:
    return Sample(wnid, name, path=name)


def keys_of(samples: list[Sample]) -> list[str]:
    return sample_keys(as_table(samples)).to_pylist()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("n01443537_12.JPEG", "n01443537_12"),
        ("n01443537_train_00003.JPEG", "n01443537_train_00003"),
        ("n99999999_12.JPEG", "n01443537_n99999999_12"),
        ("ILSVRC2012_val_00000001.JPEG", "n01443537_ILSVRC2012_val_00000001"),
        ("12.png", "n01443537_12"),
    ],
)
def test_a_key_is_the_wnid_and_the_stem(name: str, key: str) -> None:
    assert keys_of([sample(name)]) == [key]


def test_without_a_public_label_a_key_is_the_stem() -> None:
    names = ["ILSVRC2012_test_00000001.JPEG", "n01443537_12.JPEG"]
    assert keys_of([sample(name, None) for name in names]) == ["ILSVRC2012_test_00000001", "n01443537_12"]


def test_odd_names_get_keys_that_are_distinct_and_legal() -> None:
    names = [
        *("a b.jpg", "a.b.jpg", "a-b.jpg", "a_b.jpg", "a/b.jpg", "a\nb.jpg"),
        *("same.jpg", "same.jpeg", "same.png", "n01443537_same.jpg"),
        *("\u00e9t\u00e9.jpg", "ete.jpg", "e\u0301te\u0301.jpg", "图.jpg", "画.jpg", ".jpg", "..jpg", " .jpg"),
        *("x" * 200 + ".jpg", "x" * 201 + ".jpg", "x" * 200 + "y.jpg", "x" * 80 + ".jpg", "x" * 81 + ".jpg"),
    ]  # fmt: skip
    wnids = ("n01443537", "a b", "a.b", "class/of its own", "n01443537_same", None)
    keys = keys_of([sample(name, wnid) for name in names for wnid in wnids])
    assert len(set(keys)) == len(names) * len(wnids)
    for key in keys:
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        assert 0 < len(key) <= 96, "USTAR holds names of 100 bytes, four of which are the suffix"


def test_keys_do_not_depend_on_the_order_of_the_samples() -> None:
    samples = [sample(name) for name in ("same.jpg", "same.png", "a b.jpg", "plain.jpg")]
    assert keys_of(samples[::-1]) == keys_of(samples)[::-1]


@pytest.mark.parametrize("wnid", ["n01443537", None])
def test_two_images_of_one_class_and_name_are_refused(wnid: str | None) -> None:
    samples = [sample("n01443537_1.JPEG", wnid), sample("n01443537_2.JPEG", wnid), sample("n01443537_1.JPEG", wnid)]
    with pytest.raises(InputError, match=f"^class {wnid} has two images named n01443537_1.JPEG; rename or remove one of them$"):
        sample_keys(as_table(samples))


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="^listed has no images in the split val; expected at least one; check its path$"):
        plan_shards(Listed([], ["n01443537"]), "val", ShardConfig(), tmp_path)


def test_an_image_of_no_class_is_refused(tmp_path: Path) -> None:
    dataset = Listed([sample("a.jpg"), sample("b.jpg", "n99999999"), sample("c.jpg", None)], ["n01443537"])
    with pytest.raises(
        InputError, match="^listed has images of the class n99999999, which is not in its list of classes; add it"
    ):
        plan_shards(dataset, "train", ShardConfig(), tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"storage": "square63"}, "storage\n.*should match pattern"),
        ({"storage": "square5000"}, "storage\n.*should match pattern"),
        ({"storage": "longer256"}, "storage\n.*should match pattern"),
        ({"samples_per_shard": 0}, "samples_per_shard\n.*greater than 0"),
        ({"seed": -1}, "seed\n.*greater than or equal to 0"),
        ({"bad_images": "ignore"}, "bad_images\n.*'error' or 'report'"),
        ({"quality": 95}, "quality\n.*not permitted"),
    ],
)
def test_a_config_that_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ShardConfig.model_validate(values)


@pytest.mark.parametrize(("per_shard", "sizes"), [(1, [1] * 20), (7, [7, 7, 6]), (20, [20]), (1000, [20])])
def test_shards_are_full_but_the_last(per_shard: int, sizes: list[int], tmp_path: Path) -> None:
    plan = plan_shards(TINY, "train", ShardConfig(storage="square64", samples_per_shard=per_shard), tmp_path)
    assert (len(plan), plan.num_samples, plan.split) == (len(sizes), 20, "train")
    assert [len(shard.samples) for shard in plan] == sizes == [plan.num_samples_of(number) for number in range(len(plan))]
    assert [shard.name for shard in plan] == [f"train-{n:05d}.tar" for n in range(len(sizes))]


@pytest.mark.parametrize("number", [-1, 3])
def test_a_shard_that_is_not_planned_is_an_index_error(number: int, tmp_path: Path) -> None:
    plan = plan_shards(TINY, "train", ShardConfig(samples_per_shard=7), tmp_path)
    with pytest.raises(IndexError, match=f"^no shard {number}; the plan has 3$"):
        plan[number]


def test_a_killed_planning_leaves_no_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        plan_shards(TINY, "train", ShardConfig(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_plan_counts_the_images_of_each_archive(tmp_path: Path) -> None:
    samples = [Sample("a", f"{n}.jpg", f"/x/{'one' if n < 3 else 'two'}.tar", 512 * n, 9) for n in range(8)]
    plan = plan_shards(Listed([*samples, sample("9.jpg", "a")], ["a"]), "train", ShardConfig(samples_per_shard=2), tmp_path)
    assert plan.sources() == {"one.tar": 3, "two.tar": 5}


def rows(plan: Plan) -> list[tuple[str, int | None, Sample]]:
    return [row for shard in plan for row in zip(shard.keys, shard.class_indices, shard.samples, strict=True)]


def test_another_process_reads_the_plan_that_was_made(tmp_path: Path) -> None:
    plan = plan_shards(TINY, "train", ShardConfig(samples_per_shard=7), tmp_path)
    assert rows(Plan(tmp_path)) == rows(plan)


def test_the_seed_alone_decides_the_order(tmp_path: Path) -> None:
    plans = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        plans.append(rows(plan_shards(TINY, "train", ShardConfig(samples_per_shard=7, seed=seed), tmp_path / name)))
    assert plans[0] == plans[1] != plans[2]
    assert sorted(plans[0]) == sorted(plans[2])


def test_two_hundred_thousand_members_are_planned_once_each_with_their_labels(tmp_path: Path) -> None:
    wnids = np.array([f"n{number:08d}" for number in np.random.default_rng(0).permutation(10**6)[:500]])
    folders = np.repeat(wnids, 400)
    names = np.char.add(folders, [f"_{n * 7919 % 99_991}.JPEG" for n in range(len(folders))])
    offsets = 1024 * np.arange(len(folders))
    columns = [[""] * len(folders), folders.tolist(), names.tolist(), offsets, np.full(len(folders), 512)]
    members = pa.table([pa.array(column, kind) for column, kind in zip(columns, MEMBERS.types, strict=True)], schema=MEMBERS)
    pq.write_table(members, tmp_path / "members.parquet", row_group_size=65_536)
    archive = tmp_path / "fall11_whole.tar"
    archive.touch()
    dataset = Fall(FALL2011, tmp_path, lists={archive: tmp_path / "members.parquet"})
    planned: list[pa.Table] = []
    for split, num_shards in (("train", 198), ("val", 2)):
        plan = plan_shards(dataset, split, ShardConfig(), tmp_path)
        assert len(plan) == num_shards
        with pa.ipc.open_file(tmp_path / "plan.arrow") as reader:
            planned.append(reader.read_all())
    rows = pa.concat_tables(planned).to_pandas()
    assert (len(planned[0]), len(planned[1])) == (198_000, 2_000)
    assert rows["key"].is_unique
    assert sorted(rows["offset"]) == offsets.tolist()
    assert (np.sort(wnids)[rows["class_index"]] == rows["wnid"]).all()
    place = rows["offset"].to_numpy() // 1024
    assert (rows["wnid"] == folders[place]).all()
    assert (rows["name"] == names[place]).all()
    assert (rows["key"] + ".JPEG" == rows["name"]).all()
