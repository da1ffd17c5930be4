"""The shard format, and the modules that need nothing heavy to read and write it."""

import subprocess
import sys
from pathlib import Path

import pytest

from data_shards.shard_format import INDEX_VERSION, filled_up, index_file, index_name

HEAVY = ("torch", "pandas", "matplotlib", "numba", "PIL", "pyarrow.dataset", "scipy", "nvidia")


@pytest.mark.parametrize("module", ["planning", "writing", "listing", "verifying"])
def test_planning_writing_listing_and_verifying_import_nothing_heavy(module: str) -> None:
    code = f"import sys, data_shards.{module}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert not set(HEAVY) & set(found.stdout.split())


@pytest.mark.parametrize("module", ["shard_set", "verifying", "duplicates", "colours", "loading.order", "loading.dali"])
def test_readers_do_not_import_the_writer(module: str) -> None:
    code = f"import sys, data_shards.{module}; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert not {"data_shards.writing", "data_shards.images", "data_shards.planning"} & set(found.stdout.split())


@pytest.mark.parametrize(("size", "unit", "filled"), [(0, 512, 0), (1, 512, 512), (512, 512, 512), (513, 512, 1024), (5, 3, 6)])
def test_sizes_are_filled_up_to_whole_units(size: int, unit: int, filled: int) -> None:
    assert filled_up(size, unit) == filled


def test_an_index_file_counts_its_lines() -> None:
    assert index_name("train-00000.tar") == "train-00000.idx"
    assert (
        index_file(["jpg 512 3 a.jpg", "jpg 1536 4 b.jpg"])
        == f"{INDEX_VERSION} 2\njpg 512 3 a.jpg\njpg 1536 4 b.jpg\n".encode()
    )
