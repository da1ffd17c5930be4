"""Hugging Face's Parquet files: the same samples as a folder of the same images, whatever the row groups, in bounded memory."""

import json
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from base.errors import InputError
from data_shards.datasets.dataset import ImageClass, as_rows
from data_shards.datasets.parquet import ParquetSource
from data_shards.planning import ShardConfig

ROOT = Path(__file__).parents[3]
WNIDS = ["n01440764", "n01443537", "n02012849"]
Rows = list[tuple[int | None, str | None, bytes | None]]


def write_parquet(path: Path, names: list[str], rows: Rows, **options: Any) -> None:
    """Write a file as `datasets` does: label, path and bytes of each image, and the class names in the metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    images = [{"bytes": data, "path": name} for _, name, data in rows]
    pq.write_table(pa.table([images, [label for label, *_ in rows]], schema=schema), path, **options)


@pytest.fixture
def rows(picture: Any) -> Rows:
    """Return four training images of each of three classes, as imagenet-1k names them."""
    return [(n % 3, f"{WNIDS[n % 3]}_{n}_{WNIDS[n % 3]}.JPEG", picture(n)) for n in range(12)]


def write_both(root: Path, names: list[str], rows: Rows) -> Path:
    """Write the rows as the only file of train and of val."""
    for split in ("train", "validation"):
        write_parquet(root / "data" / f"{split}-00000-of-00001.parquet", names, rows)
    return root


def samples_of(dataset: Any, split: str) -> dict[str, tuple[str | None, bytes]]:
    return {sample.name: (sample.wnid, dataset.read(sample)) for sample in as_rows(dataset.samples(split))}


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("row_group_size", [1, 5, 100])
def test_any_compression_and_row_groups_give_the_bytes_of_a_folder(
    compression: str, row_group_size: int, rows: Rows, tmp_path: Path, open_listed: Any, write_set: Any
) -> None:
    for label, path, data in rows:
        wnid = WNIDS[label or 0]
        image = tmp_path / "images" / "train" / wnid / str(path).replace(f"_{wnid}.JPEG", ".JPEG")
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(data or b"")
    options = {"compression": compression, "row_group_size": row_group_size, "use_dictionary": compression != "none"}
    for file in range(2):
        write_parquet(
            tmp_path / f"pq/data/train-{file:05d}-of-00002.parquet", ["tench", "crane", "crane"], rows[file::2], **options
        )
    config = ShardConfig(storage="original", samples_per_shard=5)
    datasets = [open_listed("parquet", tmp_path / "pq"), open_listed("folder", tmp_path / "images")]
    sets = [write_set(tmp_path / f"set{n}", dataset, "train", config) for n, dataset in enumerate(datasets)]
    first, second = ({path.name: sha256(path.read_bytes()).hexdigest() for path in made.glob("*.tar")} for made in sets)
    assert first == second
    assert len(first) == 3


def test_two_classes_of_one_name_are_two_classes(rows: Rows, tmp_path: Path, open_listed: Any) -> None:
    dataset = open_listed("parquet", write_both(tmp_path / "pq", ["tench", "crane", "crane"], rows))
    assert dataset.classes() == [ImageClass(*entry) for entry in zip(WNIDS, ["tench", "crane", "crane"], strict=True)]
    unnamed: Rows = [(label, None, data) for label, _, data in rows]
    dataset = open_listed("parquet", write_both(tmp_path / "pq2", ["tench", "crane", "crane"], unnamed))
    assert [wnid for wnid, _ in dataset.classes()] == ["crane (1)", "crane (2)", "tench"]
    assert samples_of(dataset, "train")["train-00000-000001.jpg"] == ("crane (1)", rows[1][2])


def test_names_end_without_their_wnid_and_test_images_have_no_class(rows: Rows, tmp_path: Path, open_listed: Any) -> None:
    root = write_both(tmp_path / "pq", ["tench", "goldfish", "crane"], rows)
    val: Rows = [(n % 3, f"ILSVRC2012_val_{n:08d}_{WNIDS[n % 3]}.JPEG", rows[n][2]) for n in range(6)]
    write_parquet(root / "data" / "validation-00000-of-00001.parquet", ["tench", "goldfish", "crane"], val)
    test: Rows = [(-1, f"ILSVRC2012_test_{n:08d}.JPEG", rows[n][2]) for n in range(2)]
    write_parquet(root / "data" / "test-00000-of-00001.parquet", ["tench", "goldfish", "crane"], test)
    assert "n01440764_0.JPEG" in samples_of(open_listed("parquet", root), "train")
    found = samples_of(open_listed("parquet", root, "val"), "val")
    assert found["ILSVRC2012_val_00000001.JPEG"] == (WNIDS[1], rows[1][2])
    found = samples_of(open_listed("parquet", root, "test"), "test")
    assert found == {f"ILSVRC2012_test_{n:08d}.JPEG": (None, rows[n][2]) for n in range(2)}


def test_classes_named_by_wnids_keep_the_order_of_the_file(picture: Any, tmp_path: Path, open_listed: Any) -> None:
    names = ["n02012849", "n01440764", "n01443537"]  # zh-plus/tiny-imagenet is not in the order of WNIDs either
    dataset = open_listed("parquet", write_both(tmp_path / "pq", names, [(n, None, picture(n)) for n in range(3)]))
    assert [wnid for wnid, _ in dataset.classes()] == sorted(names)
    assert dict(samples_of(dataset, "train").values()) == {name: picture(n) for n, name in enumerate(names)}


def test_a_list_chooses_the_classes(rows: Rows, tmp_path: Path, open_listed: Any) -> None:
    (tmp_path / "wnids.txt").write_text("n01440764\nn02012849\n")
    dataset = open_listed("parquet", write_both(tmp_path / "pq", list("abc"), rows), wnids=tmp_path / "wnids.txt")
    assert {wnid for wnid, _ in samples_of(dataset, "train").values()} == {"n01440764", "n02012849"}
    assert dataset.passed_over("train") == {"images of classes that wnids.txt does not list": 4}
    assert dataset.name.startswith("pq-2-")


def test_the_copy_is_made_once_and_said_with_the_bytes_read_and_written(rows: Rows, tmp_path: Path, open_listed: Any) -> None:
    dataset = open_listed("parquet", write_both(tmp_path / "pq", list("abc"), rows))
    (copy,) = dataset.archives("train")
    written = copy.stat()
    assert open_listed("parquet", tmp_path / "pq").archives("train") == [copy]
    assert copy.stat().st_mtime_ns == written.st_mtime_ns
    size = (tmp_path / "pq/data/train-00000-of-00001.parquet").stat().st_size
    assert dataset.found("train") == (
        f"found Hugging Face Parquet: 1 files of {size:,} bytes, read from their plain copy {copy} of {written.st_size:,} bytes"
    )
    with tarfile.open(copy) as tar:
        assert "n01440764/n01440764_0.JPEG" in tar.getnames()


@pytest.mark.parametrize("prefix", ["validation", "valid", "val"])
def test_validation_files_may_have_any_of_three_names(prefix: str, rows: Rows, tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00001.parquet", list("abc"), rows)
    write_parquet(tmp_path / f"{prefix}-00000-of-00001.parquet", list("abc"), rows)
    assert ParquetSource(path=tmp_path).open(tmp_path).splits() == {"train": None, "val": None}


Change = tuple[str, dict[str, Any], str]
TRAPS: dict[str, Change] = {
    "a number that is no class": (
        "train",
        {"rows": [(3, None, b"x")]},
        "has the label 3, but 3 class names; expected one name a label",
    ),
    "a training image with the label -1": (
        "train",
        {"rows": [*((n % 3, None, b"x") for n in range(3)), (-1, "unknown.jpg", b"x")]},
        "holds 1 train images without a label, or with the label -1, such as unknown.jpg; expected a label for each image",
    ),
    "only a path": (
        "train",
        {"rows": [(0, "/home/me/a.jpg", None)]},
        "row 0 has no bytes, only the path '/home/me/a.jpg'; embed",
    ),
    "another order of classes": (
        "train",
        {"names": [WNIDS[1], WNIDS[0], WNIDS[2]]},
        f"has the label 0, which is {WNIDS[1]}; this file numbers its classes differently",
    ),
    "a label of two WNIDs": (
        "train",
        {"rows": [(0, f"{wnid}_1_{wnid}.JPEG", b"x") for wnid in WNIDS]},
        "which is n01440764 elsewhere",
    ),
    "other classes in val": ("validation", {"names": ["a", "b"], "rows": []}, "has other classes than the training images"),
    "files that are missing": ("train-00000-of-00002", {}, "holds 1 files such as .*; expected 2: fetch the rest"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_refused_with_what_was_expected(trap: str, rows: Rows, tmp_path: Path, open_listed: Any) -> None:
    prefix, change, message = TRAPS[trap]
    root = write_both(tmp_path / "pq", list("abc"), rows)
    if "-of-" in prefix:
        (root / "data/train-00000-of-00001.parquet").unlink()
    name = prefix if "-of-" in prefix else f"{prefix}-00000-of-00001"
    write_parquet(root / "data" / f"{name}.parquet", change.get("names", list("abc")), change.get("rows", rows))
    with pytest.raises(InputError, match=message):
        open_listed("parquet", root, "val" if prefix == "validation" else "train").samples("train")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"PAR1"), "is not a whole Parquet file .*; fetch it again"),
        (
            lambda path: pq.write_table(pa.table({"x": [1]}), path),
            "has the columns x, and no images with class names in its metadata",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(write: Any, message: str, tmp_path: Path, open_listed: Any) -> None:
    write(tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(InputError, match=message):
        open_listed("parquet", tmp_path)


def test_a_folder_without_parquet_names_what_is_missing(tmp_path: Path) -> None:
    splits = ParquetSource(path=tmp_path).open(tmp_path).splits()
    assert splits["train"] == f"no train-*.parquet in {tmp_path} or in its folder data"
    assert splits["val"] == f"no validation-*.parquet or valid-*.parquet or val-*.parquet in {tmp_path} or in its folder data"


@pytest.mark.parametrize("row_group_size", [100, 10_000])
def test_memory_does_not_grow_with_the_row_groups(row_group_size: int, tmp_path: Path) -> None:
    image = bytes(range(256)) * 40
    rows: Rows = [(n % 2, f"{n}.JPEG", b"\xff\xd8%d" % n + image) for n in range(10_000)]
    write_parquet(
        tmp_path / "train.parquet", ["a", "b"], rows, row_group_size=row_group_size, compression="none", use_dictionary=False
    )
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom data_shards.datasets.parquet import ParquetSource\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "root = Path(sys.argv[1])\nbefore = peak()\ndataset = ParquetSource(path=root).open(root / 'unpacked')\n"
        "(copy,) = dataset.archives('train')\nprint(peak() - before, copy.stat().st_size)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=ROOT, check=True, capture_output=True, text=True)
    grown_kib, written = map(int, done.stdout.split())
    assert written > 100_000_000
    assert grown_kib < 48 * 1024
