"""Real, tiny shard sets for the tests of their writers and readers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from data_shards.datasets.dataset import Dataset, Split
from data_shards.datasets.scanning import Scan, write_members
from data_shards.datasets.source import AnySource
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.planning import ShardConfig, plan_shards
from data_shards.shard_set import ShardSet
from data_shards.writing import write_shard

SIXTY = Synthetic(train_per_class=3, val_per_class=1, side=72)
SMALL = ShardConfig(storage="square72", samples_per_shard=16)

WriteSet = Callable[..., Path]
OpenListed = Callable[..., Dataset]


@pytest.fixture
def open_listed(tmp_path: Path) -> OpenListed:
    """Return a function that opens a dataset whose archives for a split have been listed."""
    listed = tmp_path / "listed"
    listed.mkdir()

    def open_dataset(kind: str, root: Path, split: Split = "train", **options: object) -> Dataset:
        source = TypeAdapter[AnySource](AnySource).validate_python({"kind": kind, "path": root, **options})
        lists = {}
        for archive in source.open(listed).archives(split):
            lists[archive] = listed / f"{len(list(listed.iterdir()))}.parquet"
            for _ in write_members(Scan(archive), lists[archive]):
                pass
        return source.open(listed, lists)

    return open_dataset


@pytest.fixture(scope="session")
def write_set() -> WriteSet:
    """Return a function that writes a dataset's split into a folder as a worker would, and returns the folder."""

    def write(directory: Path, dataset: Dataset = SIXTY, split: Split = "train", config: ShardConfig = SMALL) -> Path:
        work = directory.with_name(f"{directory.name}.work")
        directory.mkdir(parents=True)
        work.mkdir()
        for plan in plan_shards(dataset, split, config, work):
            write_shard(dataset, plan, config, directory, work)
        write_lists(dataset, directory, work)
        return directory

    return write


@pytest.fixture(scope="session")
def shards(write_set: WriteSet, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Return 60 drawn images of 20 classes, 72 × 72, in tars of 16, 16, 16 and 12. To be read only."""
    return ShardSet.open(write_set(tmp_path_factory.mktemp("shards") / "train"))
