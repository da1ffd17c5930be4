"""The real Tiny ImageNet, turned into the other forms, gives the tars and indexes that its archive gives."""

import json
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_shards.datasets.dataset import Split, as_rows
from data_shards.planning import ShardConfig
from tasks.code import ROOT

REAL = ROOT.parent / "shared" / "data" / "tiny-imagenet-40.tar.gz"
CONFIG = ShardConfig(storage="original", samples_per_shard=300, check=False)
SPLITS: tuple[Split, ...] = ("train", "val")
Images = dict[str, list[tuple[str, str, bytes]]]
"""For each split, the WNID, the name and the bytes of each image."""


def parquet(root: Path, wnids: list[str], images: Images, tar: Any) -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": wnids, "_type": "ClassLabel"}}
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for split, found in images.items():
        columns = [
            [{"bytes": data, "path": name} for _, name, data in found],
            [wnids.index(wnid) for wnid, _, _ in found],
        ]
        path = root / f"{'validation' if split == 'val' else split}-00000-of-00001.parquet"
        pq.write_table(pa.table(columns, schema=schema), path, row_group_size=100)


def webdataset(root: Path, wnids: list[str], images: Images, tar: Any) -> None:
    (root / "classes.txt").write_text("\n".join(wnids))
    for split, found in images.items():
        files = []
        for wnid, name, data in found:
            stem = name.removesuffix(".JPEG")
            files += [(f"{stem}.jpeg", data), (f"{stem}.cls", b"%d" % wnids.index(wnid))]
        (root / f"{split}-0000.tar").write_bytes(tar(files))


def kaggle(root: Path, wnids: list[str], images: Images, tar: Any) -> None:
    solution = [f"{name.removesuffix('.JPEG')},{wnid} 1 2 3 4" for wnid, name, _ in images["val"]]
    lists = {
        "LOC_val_solution.csv": "\n".join(["ImageId,PredictionString", *solution]),
        "LOC_synset_mapping.txt": "".join(f"{wnid} words\n" for wnid in wnids),
    }
    with zipfile.ZipFile(root / "imagenet-object-localization-challenge.zip", "w") as zipped:
        for split, found in images.items():
            for wnid, name, data in found:
                zipped.writestr(f"ILSVRC/Data/CLS-LOC/{split}/{f'{wnid}/' if split == 'train' else ''}{name}", data)
        for name, text in lists.items():
            zipped.writestr(name, text)


FORMS: dict[str, tuple[Callable[..., None], str]] = {
    "Parquet": (parquet, "parquet"),
    "WebDataset": (webdataset, "wds"),
    "Kaggle's zip": (kaggle, "ilsvrc2012"),
}


def contents(directory: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in directory.glob("*-0*")}


@pytest.mark.skipif(not REAL.is_file(), reason=f"no {REAL}: forty classes of the real Tiny ImageNet, which are not distributed")
def test_every_form_gives_the_bytes_of_the_archive(tmp_path: Path, open_listed: Any, write_set: Any, tar: Any) -> None:
    original = open_listed("tiny-imagenet", REAL, num_classes=2)
    wnids = [wnid for wnid, _ in original.classes()]
    images: Images = {
        split: [(str(sample.wnid), sample.name, original.read(sample)) for sample in as_rows(original.samples(split))]
        for split in SPLITS
    }
    expected = {split: contents(write_set(tmp_path / f"archive-{split}", original, split, CONFIG)) for split in SPLITS}
    assert {split: len(files) for split, files in expected.items()} == {"train": 8, "val": 2}
    for form, (write, kind) in FORMS.items():
        root = tmp_path / form
        root.mkdir()
        write(root, wnids, images, tar)
        for split in SPLITS:
            made = write_set(tmp_path / f"{form}-{split}", open_listed(kind, root, split), split, CONFIG)
            assert contents(made) == expected[split], form
