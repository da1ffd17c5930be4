"""A finished set of shards, as its readers see it.

Opened by the loaders and by the workers in `tasks.workers`; written by `data_shards.writing`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tarfile import BLOCKSIZE

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_shards.writing import index_name


@dataclass(frozen=True)
class ShardSet:
    """The tars of one split, with what they hold."""

    directory: Path
    samples: pd.DataFrame
    """One row an image, in the order in which the tars hold them; columns as `data_shards.writing.SAMPLE_LIST`."""
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
    def labelled(self) -> bool:
        """Whether the set says what its images show; a competition's test images may not."""
        return bool(self.samples["class_index"].notna().all())

    @property
    def class_indices(self) -> NDArray[np.int64]:
        """Each image's class, in the order of the tars.

        Raises:
            ValueError: the set has no labels.
        """
        if not self.labelled:
            raise ValueError(f"the images of {self.directory} have no labels; expected a set whose truth is public")
        return self.samples["class_index"].to_numpy(np.int64)

    @property
    def tars(self) -> list[Path]:
        """The tars in order."""
        return [self.directory / name for name in self.samples["shard"].unique()]

    @cached_property
    def side(self) -> int:
        """Side in pixels of the stored squares.

        Raises:
            ValueError: the images are not squares of one size.
        """
        sides = np.unique(self.samples[["height", "width"]].to_numpy())
        if len(sides) != 1:
            raise ValueError(
                f"the images of {self.directory} have sides of {sides[0]:,} to {sides[-1]:,} pixels; "
                f"networks here read squares of one size: shard with a storage such as square256"
            )
        return int(sides[0])

    @cached_property
    def index_lines(self) -> list[list[str]]:
        """For each tar, one index line a sample."""
        return [(tar.parent / index_name(tar.name)).read_text("ascii").splitlines()[1:] for tar in self.tars]

    def _check_files(self) -> None:
        # A JPEG is filled up to whole blocks; after it come a header and at least one byte of the label, or the end mark.
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
