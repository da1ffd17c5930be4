"""ILSVRC-2012 in every form that people hold: the same images give the same keys, labels, tars and indexes."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from base.errors import InputError
from data_shards.datasets.dataset import ImageClass, Split
from data_shards.datasets.ilsvrc import IlsvrcSource
from data_shards.datasets.ilsvrc_forms import jpeg_size
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet

WNIDS = ["n01440764", "n01443537", "n02487347", "n03000134", "n07711080"]
NAMES = ["tench", "crane", "titi", "fence", "crane"]
CONFIG = ShardConfig(storage="original", samples_per_shard=7)
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SOLUTION = "LOC_val_solution.csv"
MAPPING = "".join(f"{wnid} {words}, thing\n" for wnid, words in zip(WNIDS, NAMES, strict=True))

Image = tuple[str, str | None, bytes]
Images = dict[str, list[Image]]
"""For each split, the official name, the WNID and the bytes of each image."""
Write = Callable[[Path, Images, Any], None]


def parquet(row_group_size: int, compression: str) -> Write:
    def write(root: Path, images: Images, _: Any) -> None:
        for split, found in images.items():
            prefix = {"val": "validation"}.get(split, split)
            for file in range(2):
                rows = [entry for number, entry in enumerate(found) if number % 2 == file]
                write_file(root / f"data/{prefix}-{file:05d}-of-00002.parquet", rows)

    def write_file(path: Path, rows: list[Image]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
        schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        columns = [
            [{"bytes": data, "path": with_wnid(name, wnid)} for name, wnid, data in rows],
            [-1 if wnid is None else WNIDS.index(wnid) for _, wnid, _ in rows],
        ]
        pq.write_table(pa.table(columns, schema=schema), path, row_group_size=row_group_size, compression=compression)

    return write


def with_wnid(name: str, wnid: str | None) -> str:
    """Return a name as Hugging Face has it: `n01440764_10026_n01440764.JPEG`."""
    return name if wnid is None else name.replace(".JPEG", f"_{wnid}.JPEG")


def hugging_face_tars(root: Path, images: Images, tar: Any) -> None:
    for split, found in images.items():
        flat = [(with_wnid(name, wnid), data) for name, wnid, data in found]
        archives = [flat[number::5] for number in range(5)] if split == "train" else [flat]
        for number, files in enumerate(archives):
            suffix = f"_{number}" if split == "train" else ""
            (root / f"{split}_images{suffix}.tar.gz").write_bytes(tar(files, "w:gz"))


def kaggle_files(images: Images) -> list[tuple[str, bytes]]:
    """Return the paths and contents of the folders that Kaggle's archive is unpacked to."""
    return [
        (f"ILSVRC/Data/CLS-LOC/{split}/{f'{wnid}/' if split == 'train' else ''}{name}", data)
        for split, found in images.items()
        for name, wnid, data in found
    ] + [("ILSVRC/Annotations/CLS-LOC/train/n01440764/n01440764_10040.xml", b"<annotation/>")]


def kaggle_lists(images: Images) -> dict[str, str]:
    """Return the two lists, which replace the devkit; the solution is in no order."""
    lines = [f"{name.removesuffix('.JPEG')},{wnid} 1 2 3 4 {wnid} 5 6 7 8 " for name, wnid, _ in images["val"][::-1]]
    return {"LOC_synset_mapping.txt": MAPPING, "LOC_val_solution.csv": "\n".join(["ImageId,PredictionString", *lines, ""])}


def kaggle(form: str) -> Write:
    def write(root: Path, images: Images, tar: Any) -> None:
        files, lists = kaggle_files(images), kaggle_lists(images)
        if form in ("zip", "zip of tar.gz"):
            inner = [("imagenet_object_localization_patched2019.tar.gz", tar(files, "w:gz"))]
            with zipfile.ZipFile(root / "imagenet-object-localization-challenge.zip", "w") as zipped:
                for name, data in [*(files if form == "zip" else inner), *lists.items()]:
                    zipped.writestr(name, data)
            return
        for name, text in lists.items():
            (root / name).write_text(text)
        if form == "tar.gz":
            (root / "imagenet_object_localization_patched2019.tar.gz").write_bytes(tar(files, "w:gz"))
        for name, data in files if form == "unpacked" else []:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)

    return write


def timm(root: Path, images: Images, tar: Any) -> None:
    (root / "_info.json").write_text(
        json.dumps({"splits": {split: {"num_samples": len(found)} for split, found in images.items()}})
    )
    for split, found in images.items():
        for number in range(2):
            files = []
            for name, wnid, data in found[number::2]:
                stem = name.removesuffix(".JPEG")
                label = -1 if wnid is None else WNIDS.index(wnid)
                about = {"label": label, "filename": f"{wnid}/{name}" if wnid else name}
                files += [(f"{stem}.cls", b"%d" % label), (f"{stem}.jpg", data), (f"{stem}.json", json.dumps(about).encode())]
            prefix = {"val": "validation"}.get(split, split)
            (root / f"imagenet1k-{prefix}-{number:04d}.tar").write_bytes(tar(files))


FORMS: dict[str, Write] = {
    "Parquet, small row groups": parquet(1, "none"),
    "Parquet, large row groups": parquet(1000, "snappy"),
    "Hugging Face's tar.gz": hugging_face_tars,
    "Kaggle's zip": kaggle("zip"),
    "Kaggle's zip of a tar.gz": kaggle("zip of tar.gz"),
    "Kaggle's tar.gz": kaggle("tar.gz"),
    "Kaggle unpacked": kaggle("unpacked"),
    "timm's tars": timm,
}
SAID = {
    "Parquet": "found Hugging Face Parquet: 2 files of ",
    "Hugging": "found Hugging Face tar.gz: 5 files of ",
    "Kaggle's": "found Kaggle's archive: 1 files of ",
    "Kaggle": "found Kaggle's folders: classes from LOC_synset_mapping.txt",
    "timm's": "found timm's WebDataset tars: 2 files of ",
}


@pytest.fixture
def official(tmp_path: Path, write_official: Any) -> Any:
    return write_official(tmp_path / "official", "ilsvrc2012")


@pytest.fixture
def images(official: Any, picture: Any) -> Images:
    """Return the images of the official archives."""
    return {
        split: [(name, wnid, picture(number)) for name, (wnid, number) in sorted(official.shown[split].items())]
        for split in SPLITS
    }


def contents(directory: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in directory.glob("*-0*")}


@pytest.mark.parametrize("devkit", [False, True], ids=["without devkit", "with devkit"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_tars_and_indexes_of_the_official_archives(
    form: str, devkit: bool, official: Any, images: Images, tmp_path: Path, open_listed: Any, write_set: Any, tar: Any
) -> None:
    root = tmp_path / "form"
    root.mkdir()
    FORMS[form](root, images, tar)
    if devkit:
        shutil.copy(official.root / "ILSVRC2012_devkit_t12.tar.gz", root)
    unlisted = {"test"} if form in ("Hugging Face's tar.gz", "timm's tars") and not devkit else set()
    missing = {split for split, reason in IlsvrcSource(kind="ilsvrc2012", path=root).open(tmp_path).splits().items() if reason}
    assert missing == unlisted
    for split in SPLITS:
        if split in missing:
            continue
        expected = write_set(tmp_path / f"official-{split}", open_listed("ilsvrc2012", official.root, split), split, CONFIG)
        dataset = open_listed("ilsvrc2012", root, split)
        made = write_set(tmp_path / f"form-{split}", dataset, split, CONFIG)
        assert contents(made) == contents(expected)
        first, second = ShardSet.open(made), ShardSet.open(expected)
        assert list(first.samples["key"]) == list(second.samples["key"])
        assert first.wnids == second.wnids == WNIDS
        assert first.classes["ilsvrc_id"].isna().all() != devkit
        if split == "train" and not (devkit and form == "Kaggle unpacked"):
            assert dataset.found(split).startswith(SAID[form.partition(" ")[0].removesuffix(",")])


def test_without_a_devkit_words_come_from_what_the_form_has(images: Images, tmp_path: Path, open_listed: Any, tar: Any) -> None:
    for form, words in (("Parquet, small row groups", "titi"), ("Kaggle's zip", "titi, thing"), ("timm's tars", "n02487347")):
        root = tmp_path / form
        root.mkdir()
        FORMS[form](root, images, tar)
        dataset = open_listed("ilsvrc2012", root)
        assert dataset.classes()[2] == ImageClass("n02487347", words)
        assert dataset.devkit() is None


def test_hugging_faces_class_list_is_read(images: Images, tmp_path: Path, open_listed: Any, tar: Any) -> None:
    (tmp_path / "data").mkdir()
    hugging_face_tars(tmp_path / "data", images, tar)
    entries = "".join(f'        "{wnid}": "{words}",\n' for wnid, words in zip(WNIDS, NAMES, strict=True))
    (tmp_path / "classes.py").write_text(f"IMAGENET2012_CLASSES = OrderedDict(\n    {{\n{entries}    }}\n)\n")
    assert open_listed("ilsvrc2012", tmp_path, "test").classes()[1] == ImageClass("n01443537", "crane")


@pytest.mark.parametrize(
    ("form", "split", "change", "message"),
    [
        (
            "Kaggle's tar.gz",
            "val",
            {SOLUTION: "ImageId,PredictionString\n"},
            "which LOC_val_solution.csv does not label; put it",
        ),
        (
            "Kaggle unpacked",
            "val",
            {SOLUTION: "ImageId,Prediction\n"},
            "expected ImageId,PredictionString with a WNID",
        ),
        (
            "Kaggle's tar.gz",
            "val",
            {SOLUTION: "ImageId,PredictionString\na,3 1 2 3 4\n"},
            r"\['a', '3 1 2 3 4'\]; exp",
        ),
        (
            "Kaggle unpacked",
            "train",
            {"LOC_synset_mapping.txt": "n01440764 tench\nn01443537 goldfish\n"},
            "that are none of its",
        ),
        (
            "Hugging Face's tar.gz",
            "test",
            {},
            "nothing in .* lists its classes; put LOC_synset_mapping.txt or",
        ),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    form: str, split: str, change: dict[str, str], message: str, images: Images, tmp_path: Path, open_listed: Any, tar: Any
) -> None:
    root = tmp_path / "form"
    root.mkdir()
    FORMS[form](root, images, tar)
    for name, text in change.items():
        (root / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_classes(open_listed("ilsvrc2012", root, split), split)


def read_classes(dataset: Any, split: str) -> None:
    dataset.samples(split)
    dataset.classes()


def timm_tar(tar: Any, *samples: tuple[str, str, object]) -> bytes:
    files = [
        (f"{key}.{suffix}", data)
        for key, number, about in samples
        for suffix, data in (("cls", number.encode()), ("jpg", b"x"), ("json", json.dumps(about).encode()))
    ]
    data: bytes = tar(files)
    return data


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            [("n01440764_1", "1", {}), ("n01443537_1", "0", {})],
            "number their classes in another order than that of sorted WNIDs",
        ),
        ([("n01440764_1", "1", {}), ("n01440764_2", "0", {})], "has the class 0, but n01440764 is 1 elsewhere"),
        ([("0001", "1", {})], "the sample 0001 of .* has no WNID in its key or its JSON"),
        ([("n01440764_1", "tench", {})], "has the class b'tench'; expected a number in its .cls"),
        ([("n01440764_1", "0", [1])], r"has the JSON b'\[1\]'; expected an object"),
    ],
)
def test_tars_without_true_classes_are_refused(samples: Any, message: str, tmp_path: Path, open_listed: Any, tar: Any) -> None:
    (tmp_path / "imagenet1k-train-0000.tar").write_bytes(timm_tar(tar, *samples))
    with pytest.raises(InputError, match=message):
        open_listed("ilsvrc2012", tmp_path)


def test_the_official_archives_come_first(official: Any, images: Images, open_listed: Any, tar: Any) -> None:
    timm(official.root, images, tar)
    dataset = open_listed("ilsvrc2012", official.root)
    assert [path.name for path in dataset.archives("train")] == ["ILSVRC2012_img_train.tar"]
    assert dataset.found("train") is None


def test_a_damaged_archive_of_a_form_is_refused(images: Images, tmp_path: Path, open_listed: Any, tar: Any) -> None:
    hugging_face_tars(tmp_path, images, tar)
    path = tmp_path / "train_images_3.tar.gz"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=re.escape("train_images_3.tar.gz is neither a folder nor a whole tar")):
        open_listed("ilsvrc2012", tmp_path)
    assert not list((tmp_path / "listed").glob("*.tar"))


def test_scaled_copies_do_not_pass_for_the_originals(images: Images, tmp_path: Path, open_listed: Any, tar: Any) -> None:
    square = simplejpeg.encode_jpeg(np.zeros((64, 64, 3), np.uint8))
    scaled = {split: [(name, wnid, square) for name, wnid, _ in found] for split, found in images.items()}
    parquet(5, "none")(tmp_path, {**scaled, "train": scaled["train"] * 2}, tar)
    with pytest.raises(InputError, match="are 64 x 64, scaled and cropped from those of ILSVRC-2012; use the dataset parquet"):
        open_listed("ilsvrc2012", tmp_path)


def test_the_size_of_a_jpeg_is_read_from_its_header(picture: Any) -> None:
    assert jpeg_size(picture(1)) == (72, 80)
    for data in (b"", b"\x89PNG", picture(1)[:40]):
        assert jpeg_size(data) is None
