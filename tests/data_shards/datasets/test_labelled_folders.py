"""ImageNetV2, A, R and Sketch as they are handed out: each image has the class that its folder stands for."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base.errors import InputError
from data_shards.datasets.dataset import as_rows
from data_shards.datasets.imagenet_v2 import ImageNetV2Source
from data_shards.datasets.imagenet_variants import ImageNetVariantSource
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet

WNIDS = [f"n{10_000_000 + 7 * n}" for n in range(12)]
V2 = "imagenetv2-matched-frequency"
Files = list[tuple[str, bytes]]


def numbered(picture: Callable[[int], bytes], numbers: Any = range(12)) -> Files:
    """Return two pictures a class in folders of numbers; picture 2 n and 2 n + 1 show class n."""
    top = f"{V2}-format-val"
    return [(f"{top}/{n}/{2 * int(n) + k:040x}.jpeg", picture(2 * int(n) + k)) for n in numbers for k in range(2)]


def named(top: str, picture: Callable[[int], bytes], wnids: list[str] = WNIDS) -> Files:
    return [(f"{top}/{wnid}/art_{2 * n + k}.0 a_0.5.jpg", picture(2 * n + k)) for n, wnid in enumerate(wnids) for k in range(2)]


def unpack(root: Path, files: Files) -> Path:
    for name, data in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def as_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in files:
            zipped.writestr(name, data)
    return path


def labels(dataset: Any, shown: Callable[[bytes], int]) -> list[tuple[str, int]]:
    """Return the WNID of each sample, and the class that its picture shows."""
    return [(sample.wnid, shown(dataset.read(sample)) // 2) for sample in as_rows(dataset.samples("test"))]


@pytest.mark.parametrize("form", ["tar.gz", "folder", "folder of folder"])
def test_a_folder_of_v2_is_the_number_of_its_class_and_no_string(
    form: str, tmp_path: Path, open_listed: Any, tar: Any, picture: Any, shown: Any
) -> None:
    if form == "tar.gz":
        path = tmp_path / f"{V2}.tar.gz"
        path.write_bytes(tar(numbered(picture), "w:gz"))
    else:
        path = unpack(tmp_path / "v2", numbered(picture))
        path = path if form == "folder of folder" else path / f"{V2}-format-val"
    dataset = open_listed("imagenet-v2", path, "test", classes=WNIDS)
    assert labels(dataset, shown) == [(WNIDS[n // 2], n // 2) for n in range(24)]
    assert [wnid for wnid, _ in dataset.classes()] == WNIDS
    assert dataset.official_count("test") == 10_000


def test_names_sorted_as_text_would_mislabel_988_of_1000_classes(tmp_path: Path, open_listed: Any, tar: Any) -> None:
    wnids = [f"n{10_000_000 + n}" for n in range(1000)]
    path = tmp_path / "imagenetv2-top-images.tar"
    path.write_bytes(tar([(f"imagenetv2-top-images-format-val/{n}/{n}.jpeg", b"x") for n in range(1000)]))
    dataset = open_listed("imagenet-v2", path, "test", classes=wnids)
    given = {int(sample.name.partition(".")[0]): sample.wnid for sample in as_rows(dataset.samples("test"))}
    assert given == dict(enumerate(wnids))
    as_text = dict(zip(sorted(given, key=str), wnids, strict=True))
    assert sum(as_text[n] != given[n] for n in given) == 988
    assert dataset.name == "imagenet-v2-top-images"


def test_every_image_is_sharded_once_with_the_class_index_of_the_networks(
    tmp_path: Path, open_listed: Any, write_set: Any, tar: Any, picture: Any
) -> None:
    path = tmp_path / "imagenet-a.tar"
    path.write_bytes(tar([*named("imagenet-a", picture, WNIDS[3:6]), ("imagenet-a/README.txt", b"about")]))
    dataset = open_listed("imagenet-a", path, "test", classes=WNIDS)
    shards = ShardSet.open(write_set(tmp_path / "set", dataset, "test", ShardConfig(storage="square72")))
    assert shards.wnids == WNIDS
    assert sorted(shards.class_indices) == [3, 3, 4, 4, 5, 5]
    assert shards.samples["key"].is_unique
    assert dict(dataset.passed_over("test")) == {".txt files": 1}


@pytest.mark.parametrize(
    ("kind", "name"), [("imagenet-a", "imagenet-a"), ("imagenet-r", "imagenet-r"), ("imagenet-sketch", "sketch")]
)
def test_a_folder_of_the_others_is_a_wnid(
    kind: str, name: str, tmp_path: Path, open_listed: Any, picture: Any, shown: Any
) -> None:
    path = as_zip(tmp_path / f"{name}.zip", named(name, picture))
    for place in (path, tmp_path, unpack(tmp_path / "unpacked", named(name, picture))):
        dataset = open_listed(kind, place, "test")
        assert labels(dataset, shown) == [(WNIDS[n // 2], n // 2) for n in range(24)]
        assert dataset.name == kind


def test_networks_of_fewer_classes_see_the_images_of_these(tmp_path: Path, open_listed: Any, tar: Any, picture: Any) -> None:
    (tmp_path / "imagenet-r.tar").write_bytes(tar(named("imagenet-r", picture)))
    (tmp_path / f"{V2}.tar.gz").write_bytes(tar(numbered(picture), "w:gz"))
    for kind, options in (("imagenet-r", {}), ("imagenet-v2", {"numbered": WNIDS})):
        few = open_listed(kind, tmp_path, "test", classes=[*WNIDS[5:7], "n99999999"], **options)
        assert [sample.wnid for sample in as_rows(few.samples("test"))] == [wnid for wnid in WNIDS[5:7] for _ in range(2)]
        assert few.name.rpartition("-")[0].endswith("-3")
        assert dict(few.passed_over("test")) == {"images of classes that the networks do not have": 20}


def test_a_list_chooses_the_classes(tmp_path: Path, open_listed: Any, tar: Any, picture: Any) -> None:
    (tmp_path / "imagenet-r.tar").write_bytes(tar(named("imagenet-r", picture)))
    (tmp_path / "wnids.txt").write_text("\n".join(WNIDS[1:4]))
    dataset = open_listed("imagenet-r", tmp_path, "test", wnids=tmp_path / "wnids.txt")
    assert [wnid for wnid, _ in dataset.classes()] == WNIDS[1:4]
    assert len(dataset.samples("test")) == 6
    assert dataset.name.startswith("imagenet-r-3-")
    assert dict(dataset.passed_over("test")) == {"images of classes that wnids.txt does not list": 18}


def shards_of(dataset: Any) -> tuple[str, Any]:
    """Return what the name and the plan of a set are made from."""
    return dataset.name, dataset.samples("test")


@pytest.mark.parametrize(
    ("kind", "name", "folders", "message"),
    [
        ("imagenet-v2", V2, ["0", "1", "n01440764"], "in the folder 'n01440764'; expected folders 0 to 999, each the number"),
        ("imagenet-v2", V2, ["0", "1", "3"], "holds 3 folders numbered 0 to 3, and the list has 12 WNIDs; expected one folder"),
        ("imagenet-v2", V2, [str(n) for n in range(1, 13)], "holds 12 folders numbered 1 to 12, and the list has 12 WNIDs"),
        ("imagenet-v2", V2, [*map(str, range(12)), "07"], "holds 13 folders numbered 0 to 11, and the list has 12 WNIDs"),
        ("imagenet-v2", "v2", [str(n) for n in range(12)], "does not say which variant of ImageNetV2 it is; expected match"),
        ("imagenet-a", "imagenet-a", ["n01440764", "tench"], "images in 'tench', which is not a WNID; expected a folder such"),
        ("imagenet-a", "imagenet-a", ["n01440764", "n01443537"], "has images of 0 of the 12 classes that the networks have"),
    ],
)
def test_a_copy_that_would_mislabel_images_is_refused(
    kind: str, name: str, folders: list[str], message: str, tmp_path: Path, open_listed: Any, picture: Any
) -> None:
    root = unpack(tmp_path / "in" / name, [(f"{folder}/{n}.jpg", picture(n)) for n, folder in enumerate(folders)])
    dataset = open_listed(kind, root, "test", classes=WNIDS)
    with pytest.raises(InputError, match=message):
        shards_of(dataset)


def test_what_is_missing_is_named(tmp_path: Path, tar: Any, picture: Any) -> None:
    source = ImageNetVariantSource(kind="imagenet-a", path=tmp_path)
    expected = f"{tmp_path} holds no imagenet-a*, nor class folders; give the path of one archive or folder of the test set"
    assert source.open(tmp_path).splits() == {"test": expected}
    with pytest.raises(InputError, match="is a test set, which has no split val; its split is test$"):
        source.open(tmp_path).archives("val")
    for variant in ("matched-frequency", "top-images"):
        (tmp_path / f"imagenetv2-{variant}.tar.gz").write_bytes(tar([("0/a.jpeg", picture(0))], "w:gz"))
    both = ImageNetV2Source(path=tmp_path, classes=tuple(WNIDS)).open(tmp_path).splits()["test"]
    assert both is not None
    assert "holds imagenetv2-matched-frequency.tar.gz and imagenetv2-top-images.tar.gz; give the path of one" in both
    with pytest.raises(InputError, match="the folders of imagenet-v2 are numbers of classes; give --class-list with the 1,000"):
        ImageNetV2Source(path=tmp_path).open(tmp_path)
