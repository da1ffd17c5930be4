"""The colours of a shard set, against all its pixels at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from base.errors import InputError
from data_shards.colours import Colours, measure_colours
from data_shards.decoding import decode_jpeg
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet


@pytest.fixture(scope="module")
def pixels(shards: ShardSet) -> NDArray[np.float64]:
    """Every pixel of the set, (60 × 72 × 72, 3)."""
    tars = {tar.name: tar.read_bytes() for tar in shards.tars}
    rows = shards.samples.itertuples()
    return np.concatenate([decode_jpeg(tars[row.shard][row.offset :][: row.size]).reshape(-1, 3) for row in rows]).astype(float)


def measured(shards: ShardSet, num_threads: int = 1) -> Colours:
    colours = measure_colours(shards, num_threads)
    assert isinstance(colours, Colours)
    return colours


def test_the_mean_is_that_of_all_pixels(shards: ShardSet, pixels: NDArray[np.float64]) -> None:
    assert measured(shards).mean == pytest.approx(pixels.mean(axis=0).tolist(), rel=1e-12)


def test_components_and_deviations_are_those_of_the_covariance(shards: ShardSet, pixels: NDArray[np.float64]) -> None:
    colours = measured(shards)
    covariance = np.cov(pixels, rowvar=False, bias=True)
    components = np.array(colours.components)
    assert components @ components.T == pytest.approx(np.eye(3), abs=1e-12)
    assert components.T @ np.diag(np.square(colours.deviations)) @ components == pytest.approx(covariance, rel=1e-9)
    assert colours.deviations == sorted(colours.deviations)
    assert colours.deviations == pytest.approx(np.sqrt(np.linalg.eigvalsh(covariance)).tolist(), rel=1e-9)


def test_each_deviation_is_that_of_the_pixels_along_its_component(shards: ShardSet, pixels: NDArray[np.float64]) -> None:
    colours = measured(shards)
    for component, deviation in zip(colours.components, colours.deviations, strict=True):
        assert (pixels @ component).std() == pytest.approx(deviation, rel=1e-9)


def test_every_image_is_counted_after_each_tar(shards: ShardSet) -> None:
    seen = []
    colours = measure_colours(shards, 1, seen.append)
    assert seen == [16, 32, 48, 60]
    assert isinstance(colours, Colours)
    assert colours.num_images == 60


def test_the_number_of_threads_does_not_change_a_bit(shards: ShardSet) -> None:
    one, three = measured(shards, num_threads=1), measured(shards, num_threads=3)
    assert one[:-1] == three[:-1]
    assert np.array_equal(one.mean_image, three.mean_image)  # type: ignore[arg-type]


def test_the_mean_image_is_that_of_each_pixel(shards: ShardSet, pixels: NDArray[np.float64]) -> None:
    mean_image = measured(shards).mean_image
    assert mean_image is not None
    assert mean_image.dtype == np.float32
    np.testing.assert_allclose(mean_image, pixels.reshape(60, 72, 72, 3).mean(axis=0), rtol=1e-6)


def test_images_of_several_sizes_have_no_mean_image_but_all_else(write_set: Any, tmp_path: Path) -> None:
    configs = [ShardConfig(storage=f"square{side}", samples_per_shard=16) for side in (64, 72)]
    small, large = (write_set(tmp_path / config.storage, config=config) for config in configs)
    shards = ShardSet.open(small)
    (small / "train-00001.tar").write_bytes((large / "train-00001.tar").read_bytes())
    (small / "train-00001.idx").write_bytes((large / "train-00001.idx").read_bytes())
    rows = pd.concat([shards.samples[shards.samples["shard"] != "train-00001.tar"], _rows(large, "train-00001.tar")])
    mixed = measured(ShardSet(small, rows, shards.classes))
    assert mixed.mean_image is None
    assert mixed.num_images == 60


def test_an_image_that_was_overwritten_is_located(write_set: Any, tmp_path: Path) -> None:
    shards = ShardSet.open(write_set(tmp_path / "set"))
    row = shards.samples.iloc[20]
    with open(tmp_path / "set" / row["shard"], "r+b") as tar:
        tar.seek(row["offset"] + 200)
        tar.write(bytes(row["size"] - 200))
    with pytest.raises(InputError, match="^the JPEG is ") as raised:
        measured(shards)
    assert raised.value.__notes__ == [f"in {tmp_path}/set/{row['shard']}; check it with python -m flows.verify"]


def _rows(directory: Path, shard: str) -> pd.DataFrame:
    samples = ShardSet.open(directory).samples
    return samples[samples["shard"] == shard]
