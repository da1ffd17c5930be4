"""A finished set of shards, as its readers see it.

Opened by the loaders and by the workers in `tasks.workers`; written by `data_shards.writing`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tarfile import BLOCKSIZE

import numpy as np
import pandas as pd
import simplejpeg
from numpy.typing import NDArray

from data_shards.writing import index_name


@dataclass(frozen=True)
class ShardSet:
    """The tars of one split, with what they hold."""

    directory: Path
    samples: pd.DataFrame
    """One row an image, in the order in which the tars hold them; columns as `data_shards.writing.WrittenSample`."""
    classes: pd.DataFrame

    @classmethod
    def open(cls, directory: Path) -> "ShardSet":
        """Read the lists and make sure that every tar and index they speak of is there and long enough.

        Raises:
            FileNotFoundError: no shard set, or a shard of it is missing.
            ValueError: a shard is shorter than its list says.
        """
        lists = [directory / "samples.parquet", directory / "classes.parquet"]
        if not all(path.is_file() for path in lists):
            raise FileNotFoundError(
                f"{directory} is no shard set: it lacks samples.parquet or classes.parquet; make one with python -m flows.shard"
            )
        shards = cls(directory, pd.read_parquet(lists[0]), pd.read_parquet(lists[1]))
        shards._check_files()
        return shards

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def wnids(self) -> list[str]:
        """WNIDs in the order of the class index."""
        return list(self.classes["wnid"])

    @property
    def class_indices(self) -> NDArray[np.int64]:
        """Each image's class, in the order of the tars."""
        return self.samples["class_index"].to_numpy(np.int64)

    @property
    def tars(self) -> list[Path]:
        """The tars in order."""
        return [self.directory / name for name in self.samples["shard"].unique()]

    @cached_property
    def side(self) -> int:
        """Side in pixels of the stored squares, read off the first."""
        first = self.samples.iloc[0]
        with open(self.directory / first["shard"], "rb") as tar:
            tar.seek(first["offset"])
            height, _, _, _ = simplejpeg.decode_jpeg_header(tar.read(first["size"]))
        return int(height)

    @cached_property
    def index_lines(self) -> list[list[str]]:
        """For each tar, one index line a sample."""
        return [(tar.parent / index_name(tar.name)).read_text("ascii").splitlines()[1:] for tar in self.tars]

    def _check_files(self) -> None:
        # A JPEG is filled up to whole blocks; a header and at least one byte of the label come after it.
        blocks = -(-self.samples["size"] // BLOCKSIZE) + 1
        ends = (self.samples["offset"] + blocks * BLOCKSIZE + 1).groupby(self.samples["shard"]).max()
        for name, end in ends.items():
            for path in (self.directory / str(name), self.directory / index_name(str(name))):
                if not path.is_file():
                    raise FileNotFoundError(
                        f"{path} is missing from its shard set; restore it, or delete {self.directory} to shard again"
                    )
            size = (self.directory / str(name)).stat().st_size
            if size < end:
                raise ValueError(
                    f"{self.directory / str(name)} holds {size:,} bytes but its list needs {end:,}; "
                    f"it was cut short: delete {self.directory} to shard again"
                )
