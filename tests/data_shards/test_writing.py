"""Samples to shards: each once, the same bytes each time, and an index that points where it says."""

import io
import tarfile
from collections import Counter
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import webdataset
from PIL import Image
from pydantic import ValidationError

from data_shards.datasets.dataset import Dataset, Sample, Split
from data_shards.datasets.folder import ImageFolder
from data_shards.datasets.synthetic import Synthetic
from data_shards.images import BadImageError, Storage, store
from data_shards.shard_set import ShardSet
from data_shards.writing import ShardConfig, plan_shards, sample_keys, write_lists, write_shard

TINY = Synthetic(train_per_class=1, val_per_class=1, side=64)
CONFIG = ShardConfig(storage="square64", samples_per_shard=8)


def digests(directory: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def index_rows(tar: Path) -> list[list[str]]:
    """Return the words of each index line of a tar, its heading apart."""
    lines = tar.with_suffix(".idx").read_text("ascii").splitlines()
    return [line.split(" ") for line in lines[1:]]


def picture(seed: int = 0) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(data, "JPEG")
    return data.getvalue()


def folder(root: Path, files: dict[str, bytes]) -> ImageFolder:
    """Write `train/<class>/<name>` files and return them as a dataset."""
    for name, data in files.items():
        (root / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "train" / name).write_bytes(data)
    return ImageFolder(root)


def sample(name: str, wnid: str = "n01443537") -> Sample:
    return Sample("train", wnid, name, path=name)


def test_every_sample_is_written_once(shards: ShardSet) -> None:
    expected = Synthetic(train_per_class=3, val_per_class=1, side=72).samples("train")
    assert Counter(shards.samples["name"]) == Counter(found.name for found in expected)
    assert len(shards) == 60
    assert [name for name, _ in groupby(shards.samples["shard"])] == [f"train-{n:05d}.tar" for n in range(4)]
    assert [len(rows) for _, rows in shards.samples.groupby("shard")] == [16, 16, 16, 12]


def test_the_whole_split_is_shuffled_before_it_is_cut(shards: ShardSet) -> None:
    for _, rows in shards.samples.groupby("shard"):
        assert rows["class_index"].nunique() > 7, "sixteen images of the stored order show six classes"
        assert list(rows["class_index"]) != sorted(rows["class_index"])


def test_equal_inputs_and_seed_give_equal_bytes(write_set: Any, tmp_path: Path) -> None:
    first = digests(write_set(tmp_path / "first", TINY, config=CONFIG))
    second = digests(write_set(tmp_path / "second", TINY, config=CONFIG))
    assert set(first) == {
        *(f"train-{n:05d}.{suffix}" for n in range(3) for suffix in ("tar", "idx")), "samples.parquet", "classes.parquet"
    }  # fmt: skip
    assert first == second


def test_shards_written_in_another_order_are_the_same(write_set: Any, tmp_path: Path) -> None:
    forwards = digests(write_set(tmp_path / "forwards", TINY, config=CONFIG))
    (tmp_path / "backwards").mkdir()
    for plan in reversed(plan_shards(TINY, "train", CONFIG)):
        write_shard(TINY, plan, CONFIG, tmp_path / "backwards")
    assert forwards.items() >= digests(tmp_path / "backwards").items()


def test_another_seed_gives_another_order_of_the_same_images(write_set: Any, tmp_path: Path) -> None:
    frames = [
        pd.read_parquet(
            write_set(tmp_path / str(seed), TINY, config=CONFIG.model_copy(update={"seed": seed})) / "samples.parquet"
        )
        for seed in (0, 1)
    ]
    assert list(frames[0]["key"]) != list(frames[1]["key"])
    assert set(zip(frames[0]["key"], frames[0]["sha256"], strict=True)) == set(
        zip(frames[1]["key"], frames[1]["sha256"], strict=True)
    )


def test_the_index_names_its_version_and_how_many_samples_follow(shards: ShardSet) -> None:
    for tar, number in zip(shards.tars, (16, 16, 16, 12), strict=True):
        text = tar.with_suffix(".idx").read_text("ascii")
        assert text.startswith(f"v1.2 {number}\n")
        assert text.endswith("\n")
        assert len(text.splitlines()) == 1 + number


def test_index_offsets_point_at_the_bytes_that_tarfile_reads(shards: ShardSet) -> None:
    for tar in shards.tars:
        data = tar.read_bytes()
        with tarfile.open(tar) as opened:
            members = {member.name: member for member in opened.getmembers()}
        for words in index_rows(tar):
            for kind, offset, size, name in (words[:4], words[4:]):
                member = members.pop(name)
                assert name.endswith(f".{kind}")
                assert (int(offset), int(size)) == (member.offset_data, member.size)
                assert int(offset) % 512 == 0
            assert data[int(words[1]) :].startswith(b"\xff\xd8\xff")
            assert [words[0], words[4]] == ["jpg", "cls"]
        assert not members, "the tar holds what its index does not"


def test_the_list_tells_where_each_jpeg_lies_and_its_digest(shards: ShardSet) -> None:
    for row in shards.samples.itertuples():
        with open(shards.directory / row.shard, "rb") as tar:
            tar.seek(row.offset)
            assert sha256(tar.read(row.size)).hexdigest() == row.sha256


def test_tars_hold_nothing_of_the_day_or_the_user(shards: ShardSet) -> None:
    for path in shards.tars:
        assert path.stat().st_size % tarfile.RECORDSIZE == 0
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                assert member.type == tarfile.REGTYPE
                assert not member.pax_headers
        header = path.read_bytes()[:512]
        assert header[257:265] == b"ustar\x0000"


def test_what_is_stored_is_the_square_of_the_source(shards: ShardSet) -> None:
    dataset = Synthetic(train_per_class=3, val_per_class=1, side=72)
    by_name = {found.name: found for found in dataset.samples("train")}
    for row in shards.samples.iloc[::7].itertuples():
        data = (shards.directory / row.shard).read_bytes()[row.offset : row.offset + row.size]
        assert data == store(dataset.read(by_name[row.name]), Storage("square", 72)).jpeg


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
    assert sample_keys([sample(name)]) == [key]


def test_odd_names_get_keys_that_are_distinct_and_legal() -> None:
    names = [
        *("a b.jpg", "a.b.jpg", "a-b.jpg", "a_b.jpg", "a/b.jpg", "a\nb.jpg"),
        *("same.jpg", "same.jpeg", "same.png", "n01443537_same.jpg"),
        *("\u00e9t\u00e9.jpg", "ete.jpg", "e\u0301te\u0301.jpg", "图.jpg", "画.jpg", ".jpg", "..jpg", " .jpg"),
        *("x" * 200 + ".jpg", "x" * 201 + ".jpg", "x" * 200 + "y.jpg", "x" * 80 + ".jpg", "x" * 81 + ".jpg"),
    ]  # fmt: skip
    samples = [
        sample(name, wnid) for name in names for wnid in ("n01443537", "a b", "a.b", "class/of its own", "n01443537_same")
    ]
    keys = sample_keys(samples)
    assert len(set(keys)) == len(samples)
    for key in keys:
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        assert 0 < len(key) <= 96, "USTAR holds names of 100 bytes, four of which are the suffix"


def test_keys_do_not_hang_on_the_order_of_the_samples() -> None:
    samples = [sample(name) for name in ("same.jpg", "same.png", "a b.jpg", "plain.jpg")]
    assert sample_keys(samples[::-1]) == sample_keys(samples)[::-1]


def test_oddly_named_files_come_back_under_their_keys_with_their_labels(write_set: Any, tmp_path: Path) -> None:
    names = ["zoo of cats/a b.jpg", "zoo of cats/a.b.jpg", "zoo of cats/same.jpg", "zoo of cats/same.jpeg", "été.1/图.jpg"]
    dataset = folder(
        tmp_path / "images", {name: picture(seed) for seed, name in enumerate([*names, "été.1/" + "x" * 240 + ".jpg"])}
    )
    directory = write_set(tmp_path / "shards", dataset, config=CONFIG)
    samples = pd.read_parquet(directory / "samples.parquet")
    with tarfile.open(directory / "train-00000.tar") as tar:
        found = {name.rpartition(".")[0]: tar.extractfile(f"{name[:-4]}.cls").read() for name in tar.getnames()}  # type: ignore[union-attr]
    assert found == {row.key: str(row.class_index).encode() for row in samples.itertuples()}
    assert len(found) == 6
    assert {row.name: row.wnid for row in samples.itertuples()}["图.jpg"] == "été.1"


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_webdataset_and_plain_tarfile_read_the_same_samples_and_labels(shards: ShardSet) -> None:
    pipeline = webdataset.WebDataset([str(tar) for tar in shards.tars], shardshuffle=False, empty_check=False)
    streamed = [(found["__key__"], sha256(found["jpg"]).hexdigest(), int(found["cls"])) for found in pipeline]
    read: list[tuple[str, str, int]] = []
    for path in shards.tars:
        with tarfile.open(path) as tar:
            for member in tar.getmembers()[::2]:
                key = member.name.split(".")[0]
                jpeg, label = (tar.extractfile(f"{key}.{kind}").read() for kind in ("jpg", "cls"))  # type: ignore[union-attr]
                read.append((key, sha256(jpeg).hexdigest(), int(label)))
    listed = [(row.key, row.sha256, row.class_index) for row in shards.samples.itertuples()]
    assert streamed == read == listed


def test_labels_are_the_class_indices_of_the_class_list(shards: ShardSet) -> None:
    wnids = dict(zip(shards.classes["class_index"], shards.classes["wnid"], strict=True))
    assert [wnids[index] for index in shards.samples["class_index"]] == list(shards.samples["wnid"])
    assert all(row.key.startswith(row.wnid) for row in shards.samples.itertuples())


def test_the_lists_have_these_columns(shards: ShardSet) -> None:
    columns = {name: str(kind) for name, kind in shards.samples.dtypes.items()}
    assert list(columns) == ["key", "wnid", "class_index", "name", "shard", "offset", "size", "sha256", "mended"]
    assert {name for name, kind in columns.items() if kind == "int64"} == {"class_index", "offset", "size"}
    assert shards.samples["mended"].isna().all()
    assert list(shards.classes.columns) == ["class_index", "wnid", "words", "ilsvrc_id"]
    assert str(shards.classes["ilsvrc_id"].dtype) == "Int32"
    assert list(shards.classes["class_index"]) == list(range(20))
    assert not (shards.directory / "bad_images.parquet").exists()


def test_what_was_mended_is_listed_and_counted(tmp_path: Path) -> None:
    grey = io.BytesIO()
    Image.new("L", (70, 64), 99).save(grey, "JPEG")
    dataset = folder(tmp_path / "images", {"a/1.jpg": picture(), "b/2.jpg": grey.getvalue()})
    (tmp_path / "shards").mkdir()
    written = [write_shard(dataset, plan, CONFIG, tmp_path / "shards") for plan in plan_shards(dataset, "train", CONFIG)]
    counts = write_lists(dataset, written, tmp_path / "shards")
    assert counts == {"images": 2, "classes": 2, "shards": 1, "mended": 1, "bad_images": 0}
    samples = pd.read_parquet(tmp_path / "shards" / "samples.parquet")
    assert {row.name: row.mended for row in samples.itertuples()}["2.jpg"] == "grey"
    assert samples["mended"].isna().sum() == 1


BAD = {
    "a/good.jpg": picture(1),
    "a/cut.jpg": picture(2)[:500],
    "b/fine.jpg": picture(3),
    "b/empty.jpg": b"",
    "b/text.jpg": b"hello",
}


def test_a_bad_image_stops_the_run_and_is_named(write_set: Any, tmp_path: Path) -> None:
    dataset = folder(tmp_path / "images", {"a/cut.jpg": picture()[:500], "b/fine.jpg": picture(1)})
    where = tmp_path / "images" / "train" / "a" / "cut.jpg"
    message = rf"^cannot read cut.jpg of class a \({where}\): the JPEG is cut short .*; mend or remove it, or set bad_images to"
    with pytest.raises(BadImageError, match=message):
        write_set(tmp_path / "shards", dataset, config=CONFIG)


def test_bad_images_are_left_out_and_listed_where_that_is_asked_for(tmp_path: Path) -> None:
    dataset = folder(tmp_path / "images", BAD)
    config = CONFIG.model_copy(update={"bad_images": "report"})
    (tmp_path / "shards").mkdir()
    written = [write_shard(dataset, plan, config, tmp_path / "shards") for plan in plan_shards(dataset, "train", config)]
    counts = write_lists(dataset, written, tmp_path / "shards")
    assert counts == {"images": 2, "classes": 2, "shards": 1, "mended": 0, "bad_images": 3}
    bad = pd.read_parquet(tmp_path / "shards" / "bad_images.parquet").set_index("name")
    assert list(bad.columns) == ["wnid", "source", "reason"]
    assert {name: row["wnid"] for name, row in bad.iterrows()} == {"cut.jpg": "a", "empty.jpg": "b", "text.jpg": "b"}
    assert bad.loc["empty.jpg", "reason"] == "the file is empty"
    assert bad.loc["cut.jpg", "source"] == str(tmp_path / "images" / "train" / "a" / "cut.jpg")
    with tarfile.open(tmp_path / "shards" / "train-00000.tar") as tar:
        assert sorted(tar.getnames()) == ["a_good.cls", "a_good.jpg", "b_fine.cls", "b_fine.jpg"]
    assert (tmp_path / "shards" / "train-00000.idx").read_text().startswith("v1.2 2\n")


def test_a_shard_without_one_good_image_is_refused_even_where_bad_ones_are_reported(write_set: Any, tmp_path: Path) -> None:
    dataset = folder(tmp_path / "images", {"a/1.jpg": b"", "b/2.jpg": b"words"})
    with pytest.raises(ValueError, match="^not one of the 2 images planned for train-00000.tar can be decoded$"):
        write_set(tmp_path / "shards", dataset, config=CONFIG.model_copy(update={"bad_images": "report"}))


class NoImages(Dataset):
    """Two classes, and nothing that shows them."""

    name = "void"

    def classes(self) -> list[Any]:
        return TINY.classes()[:2]

    def samples(self, split: Split) -> list[Sample]:
        return []

    def identity(self, split: Split) -> dict[str, Any]:
        return {}


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="^void holds no image for the split val; expected at least one$"):
        plan_shards(NoImages(), "val", CONFIG)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"side": 63}, "side\n.*greater than or equal to 64"),
        ({"side": 5000}, "side\n.*less than or equal to 4096"),
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
def test_shards_are_full_but_the_last(per_shard: int, sizes: list[int]) -> None:
    plans = plan_shards(TINY, "train", ShardConfig(storage="square64", samples_per_shard=per_shard))
    assert [len(plan.samples) for plan in plans] == sizes
    assert [plan.name for plan in plans] == [f"train-{n:05d}.tar" for n in range(len(sizes))]
