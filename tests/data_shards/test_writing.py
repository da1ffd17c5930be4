"""Samples to shards: each once, the same bytes each time, and an index that points at each component."""

import io
import tarfile
import weakref
from collections import Counter
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from base.errors import InputError
from data_shards import listing
from data_shards.datasets.dataset import as_rows
from data_shards.datasets.folder import ImageFolder
from data_shards.datasets.synthetic import Synthetic
from data_shards.images import store
from data_shards.listing import Lists, write_lists
from data_shards.planning import ShardConfig, plan_shards
from data_shards.shard_format import part_path
from data_shards.shard_set import ShardSet
from data_shards.storage import Storage
from data_shards.writing import WrittenShard, member_header, write_shard

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


def write(dataset: ImageFolder, directory: Path, config: ShardConfig = CONFIG) -> tuple[list[WrittenShard], Path]:
    """Write the training shards, their lists apart; return what was written and the folder of what it takes."""
    work = directory.with_name("work")
    directory.mkdir()
    work.mkdir()
    return [write_shard(dataset, plan, config, directory, work) for plan in plan_shards(dataset, "train", config, work)], work


def report(dataset: ImageFolder, directory: Path) -> Lists:
    """Write the training shards, what cannot be decoded left out, and their lists."""
    _, work = write(dataset, directory, CONFIG.model_copy(update={"bad_images": "report"}))
    return write_lists(dataset, directory, work)


def test_every_sample_is_written_once(shards: ShardSet) -> None:
    expected = Synthetic(train_per_class=3, val_per_class=1, side=72).samples("train")
    assert Counter(shards.samples["name"]) == Counter(expected["name"].to_pylist())
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
        *(f"train-{n:05d}.{suffix}" for n in range(3) for suffix in ("tar", "idx")),
        *("samples.parquet", "classes.parquet", "_info.json"),
    }  # fmt: skip
    assert first == second


def test_shards_written_in_another_order_are_the_same(write_set: Any, tmp_path: Path) -> None:
    forwards = digests(write_set(tmp_path / "forwards", TINY, config=CONFIG))
    backwards, work = tmp_path / "backwards", tmp_path / "backwards.work"
    backwards.mkdir()
    work.mkdir()
    plan = plan_shards(TINY, "train", CONFIG, work)
    for number in reversed(range(len(plan))):
        write_shard(TINY, plan[number], CONFIG, backwards, work)
    write_lists(TINY, backwards, work)
    assert digests(backwards) == forwards


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


def test_the_list_holds_the_place_and_digest_of_each_jpeg(shards: ShardSet) -> None:
    for row in shards.samples.itertuples():
        with open(shards.directory / row.shard, "rb") as tar:
            tar.seek(row.offset)
            assert sha256(tar.read(row.size)).hexdigest() == row.sha256


@pytest.mark.parametrize("size", [0, 1, 511, 512, 110_000, 8**11 - 1])
@pytest.mark.parametrize("name", ["a.jpg", "n01443537_12.cls", "x" * 100])
def test_a_members_header_is_that_of_tarfile(name: str, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    assert member_header(name, size) == member.tobuf(tarfile.USTAR_FORMAT)


def test_tars_hold_neither_time_nor_user(shards: ShardSet) -> None:
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
    by_name = {found.name: found for found in as_rows(dataset.samples("train"))}
    for row in shards.samples.iloc[::7].itertuples():
        data = (shards.directory / row.shard).read_bytes()[row.offset : row.offset + row.size]
        assert data == store(dataset.read(by_name[row.name]), Storage("square", 72)).jpeg


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
    assert list(columns) == [
        *("key", "wnid", "class_index", "name", "shard", "offset", "size", "height", "width", "sha256"),
        *("mended", "orientation", "source", "source_offset", "source_sha256"),
    ]
    assert {name for name, kind in columns.items() if kind == "int32"} == {"class_index", "size", "height", "width"}
    assert shards.samples[["mended", "orientation", "source_offset"]].isna().all().all()
    assert (shards.samples[["height", "width"]] == 72).all().all()
    assert list(shards.classes.columns) == ["class_index", "wnid", "words", "ilsvrc_id"]
    assert list(shards.classes["class_index"]) == list(range(20))
    assert not (shards.directory / "bad_images.parquet").exists()


def test_the_list_of_classes_has_the_types_that_pandas_wrote(shards: ShardSet, tmp_path: Path) -> None:
    columns = {"class_index": [0, 1], "wnid": ["a", "b"], "words": ["a", "b"], "ilsvrc_id": pd.array([1, None], "Int32")}
    pd.DataFrame(columns).to_parquet(tmp_path / "pandas.parquet", index=False)
    by_pandas, ours = (
        pq.ParquetFile(path).schema for path in (tmp_path / "pandas.parquet", shards.directory / "classes.parquet")
    )
    assert ours == by_pandas


def test_a_converted_image_is_listed_and_counted(tmp_path: Path) -> None:
    grey = io.BytesIO()
    Image.new("L", (70, 64), 99).save(grey, "JPEG")
    dataset = folder(tmp_path / "images", {"a/1.jpg": picture(), "b/2.jpg": grey.getvalue()})
    counts = report(dataset, tmp_path / "shards").counts
    assert counts == {"images": 2, "classes": 2, "shards": 1, "mended": 1, "turned": 0, "bad_images": 0}
    samples = pd.read_parquet(tmp_path / "shards" / "samples.parquet").set_index("name")
    assert samples["mended"].dropna().to_dict() == {"2.jpg": "grey"}
    assert samples.loc["2.jpg", "source_sha256"] == sha256(grey.getvalue()).hexdigest()


def test_an_ignored_orientation_is_listed_and_counted(tmp_path: Path) -> None:
    exif, turned = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (70, 64), "red").save(turned, "JPEG", exif=exif)
    dataset = folder(tmp_path / "images", {"a/1.jpg": picture(), "b/2.jpg": turned.getvalue()})
    assert report(dataset, tmp_path / "shards").counts["turned"] == 1
    samples = pd.read_parquet(tmp_path / "shards" / "samples.parquet").set_index("name")
    assert samples["orientation"].dropna().to_dict() == {"2.jpg": 6}


BAD = {
    "a/good.jpg": picture(1),
    "a/cut.jpg": picture(2)[:500],
    "b/fine.jpg": picture(3),
    "b/empty.jpg": b"",
    "b/text.jpg": b"hello",
}


def test_bad_images_are_all_named_and_nothing_is_left_of_their_shard(tmp_path: Path) -> None:
    images, shards = tmp_path / "images", tmp_path / "shards"
    (written,), work = write(folder(images, BAD), shards)
    assert {str(bad) for bad in written.bad_images} == {
        f"cut.jpg, class a ({images}/train/a/cut.jpg): the JPEG is cut short before its pixels",
        f"empty.jpg, class b ({images}/train/b/empty.jpg): the file is empty",
        f"text.jpg, class b ({images}/train/b/text.jpg): not an image; it begins with b'hello'",
    }
    assert not list(shards.iterdir())
    assert not part_path("train-00000.tar", work).exists()


def test_bad_images_are_left_out_and_listed_if_asked_for(tmp_path: Path) -> None:
    counts = report(folder(tmp_path / "images", BAD), tmp_path / "shards").counts
    assert counts == {"images": 2, "classes": 2, "shards": 1, "mended": 0, "turned": 0, "bad_images": 3}
    bad = pd.read_parquet(tmp_path / "shards" / "bad_images.parquet").set_index("name")
    assert list(bad.columns) == ["wnid", "source", "source_offset", "reason"]
    assert bad["wnid"].to_dict() == {"cut.jpg": "a", "empty.jpg": "b", "text.jpg": "b"}
    assert bad.loc["empty.jpg", "reason"] == "the file is empty"
    assert bad.loc["cut.jpg", "source"] == str(tmp_path / "images" / "train" / "a" / "cut.jpg")
    with tarfile.open(tmp_path / "shards" / "train-00000.tar") as tar:
        assert sorted(tar.getnames()) == ["a_good.cls", "a_good.jpg", "b_fine.cls", "b_fine.jpg"]
    assert (tmp_path / "shards" / "train-00000.idx").read_text().startswith("v1.2 2\n")


def test_a_shard_without_a_good_image_is_refused_even_if_bad_ones_are_reported(tmp_path: Path) -> None:
    dataset = folder(tmp_path / "images", {"a/1.jpg": b"", "b/2.jpg": b"words"})
    message = "^none of the 2 images planned for train-00000.tar can be decoded, the first is ..jpg, class .*; check the source"
    with pytest.raises(InputError, match=message):
        report(dataset, tmp_path / "shards")


def test_lists_of_a_set_that_lacks_a_shard_are_refused(tmp_path: Path) -> None:
    dataset = folder(tmp_path / "images", {"a/1.jpg": picture(1), "b/2.jpg": picture(2)})
    _, work = write(dataset, tmp_path / "shards", CONFIG.model_copy(update={"samples_per_shard": 1}))
    part_path("train-00001.tar", work).unlink()
    with pytest.raises(FileNotFoundError, match="train-00001.tar.parquet"):
        write_lists(dataset, tmp_path / "shards", work)


def test_lists_are_joined_a_few_shards_at_a_time(write_set: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    read = listing.read_part

    def read_counted(path: Path) -> pa.Table:
        table = read(path)
        weakref.finalize(table, held.pop)
        held.append(0)
        assert len(held) <= 2 * 3, "a group is held while the next one is read, and no more"
        return table

    monkeypatch.setattr("data_shards.listing.SHARDS_PER_GROUP", 3)
    monkeypatch.setattr("data_shards.listing.read_part", read_counted)
    directory = write_set(tmp_path / "shards", TINY, config=CONFIG.model_copy(update={"samples_per_shard": 1}))
    metadata = pq.read_metadata(directory / "samples.parquet")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [3] * 6 + [2]
