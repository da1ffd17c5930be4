"""Real photographs through the shards and back, by every reader that people use: equal labels, equal pixels, equal bytes."""

import gc
import io
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import webdataset
import wids
from nvidia.dali import fn, types
from nvidia.dali.pipeline import pipeline_def

from data_shards.datasets.fall import FALL2009, Fall
from data_shards.datasets.scanning import Scan, write_members
from data_shards.decoding import decode_jpeg
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "imagenet-samples-500.tar"
Read = tuple[str, int, bytes]
"""A sample's key, its class index and its JPEG."""

pytestmark = pytest.mark.skipif(
    not PHOTOGRAPHS.exists(), reason=f"needs 500 photographs of ImageNet, one a class, in a tar at {PHOTOGRAPHS}"
)


@pytest.fixture(scope="module")
def photographs() -> dict[str, bytes]:
    """Return each photograph by its file's name, `<wnid>_<name>.JPEG`."""
    with tarfile.open(PHOTOGRAPHS) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def release(photographs: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Fall:
    """Return the photographs in the form of Fall 2009: one tar a synset."""
    root = tmp_path_factory.mktemp("fall2009")
    for name, data in photographs.items():
        with tarfile.open(root / f"{name.split('_')[0]}.tar", "w") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    members = tmp_path_factory.mktemp("members") / "members.parquet"
    assert [*write_members(Scan(root), members)] == [500]
    return Fall(FALL2009, root, lists={root: members})


@pytest.fixture(scope="module", params=["square256", "original"])
def shards(request: Any, release: Fall, write_set: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Return all 500 photographs in five shards; with one image a class, none is held out."""
    directory = tmp_path_factory.mktemp(request.param) / "train"
    return ShardSet.open(write_set(directory, release, "train", ShardConfig(storage=request.param, samples_per_shard=100)))


def stored(shards: ShardSet) -> list[Read]:
    """Return the samples in the lists, in the order of the tars."""
    tars = {tar.name: tar.read_bytes() for tar in shards.tars}
    rows = shards.samples.itertuples()
    return [(row.key, row.class_index, tars[row.shard][row.offset : row.offset + row.size]) for row in rows]


def with_webdataset(shards: ShardSet) -> list[Read]:
    found = webdataset.WebDataset([str(tar) for tar in shards.tars], shardshuffle=False, empty_check=False)
    return [(sample["__key__"], int(sample["cls"]), sample["jpg"]) for sample in found]


def with_wids(shards: ShardSet) -> list[Read]:
    urls = [{"url": str(tar), "nsamples": 100} for tar in shards.tars]
    found = wids.ShardListDataset(urls, transformations=[], keep=True)
    samples = (found[n] for n in range(len(found)))
    return [(sample["__key__"], int(sample[".cls"].read()), sample[".jpg"].read()) for sample in samples]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # both leave closing to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("read", [with_webdataset, with_wids])
def test_keys_labels_and_bytes_come_back(read: Callable[[ShardSet], list[Read]], shards: ShardSet) -> None:
    samples = stored(shards)
    assert read(shards) == samples
    gc.collect()
    wnids = shards.wnids
    assert len(wnids) == len(samples) == 500
    assert all(key.startswith(f"{wnids[class_index]}_") for key, class_index, _ in samples)


def test_original_bytes_are_those_of_the_photographs(shards: ShardSet, photographs: dict[str, bytes]) -> None:
    jpegs = {key: jpeg for key, _, jpeg in stored(shards)}
    rows = {row.name: row for row in shards.samples.itertuples()}
    assert set(rows) == set(photographs)
    assert {name: row.source_sha256 for name, row in rows.items()} == {
        name: sha256(data).hexdigest() for name, data in photographs.items()
    }
    same = {name for name, row in rows.items() if jpegs[row.key] == photographs[name]}
    if shards.samples["height"].nunique() == 1:
        assert not same, "squares of 256 pixels are nobody's own bytes"
    else:
        assert same == {name for name, row in rows.items() if pd.isna(row.mended)}
        assert len(same) > 480


@pipeline_def(batch_size=50, num_threads=2, device_id=None)  # type: ignore[untyped-decorator]  # DALI declares no types
def dali(shards: ShardSet) -> tuple[Any, Any]:
    paths, indexes = [str(tar) for tar in shards.tars], [str(tar.with_suffix(".idx")) for tar in shards.tars]
    jpegs, digits = fn.readers.webdataset(
        paths=paths, index_paths=indexes, ext=["jpg", "cls"], missing_component_behavior="error"
    )
    decoding = {"output_type": types.RGB, "adjust_orientation": False, "jpeg_fancy_upsampling": True}
    return fn.decoders.image(jpegs, **decoding), digits


def test_dali_reads_the_same_labels_and_pixels(shards: ShardSet) -> None:
    pipeline = dali(shards)
    pipeline.build()
    samples = iter(stored(shards))
    for _ in range(10):
        images, digits = (output.as_cpu() for output in pipeline.run())
        for n in range(50):
            key, class_index, jpeg = next(samples)
            assert bytes(digits.at(n)) == str(class_index).encode("ascii"), key
            assert np.array_equal(images.at(n), decode_jpeg(jpeg)), key
    assert next(samples, None) is None
