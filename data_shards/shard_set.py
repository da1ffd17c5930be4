"""A finished set of shards, as its readers see it.

Opened by the loaders and by the workers in `tasks.workers`.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tarfile import BLOCKSIZE

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from base.errors import InputError
from data_shards.shard_format import CLASSES_FILE, SAMPLES_FILE, index_name


@dataclass(frozen=True)
class ShardSet:
    """The tars of one split and the lists of their content."""

    directory: Path
    samples: pd.DataFrame
    """One row an image, in the order in which the tars hold them; columns as `data_shards.shard_format.SAMPLE_LIST`."""
    classes: pd.DataFrame

    @classmethod
    def open(cls, directory: Path) -> "ShardSet":
        """Read the lists and check that every tar and index in them exists and is long enough.

        Raises:
            InputError: there is no shard set, or one of its files is missing or cut short.
        """
        lists = [directory / SAMPLES_FILE, directory / CLASSES_FILE]
        if not all(path.is_file() for path in lists):
            raise InputError(
                f"{directory} is not a shard set: {SAMPLES_FILE} or {CLASSES_FILE} is missing; "
                "make one with python -m flows.shard"
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
        """Whether the images have labels; a competition's test images may have none."""
        return bool(self.samples["class_index"].notna().all())

    @property
    def class_indices(self) -> NDArray[np.int64]:
        """Each image's class, in the order of the tars.

        Raises:
            InputError: the set has no labels.
        """
        if not self.labelled:
            raise InputError(f"the images of {self.directory} have no labels; use a set whose labels are public")
        return self.samples["class_index"].to_numpy(np.int64)

    @property
    def tars(self) -> list[Path]:
        """The tars in order."""
        return [self.directory / name for name in self.samples["shard"].unique()]

    @cached_property
    def side(self) -> int:
        """Side in pixels of the stored squares.

        Raises:
            InputError: the images are not squares of one size.
        """
        sides = np.unique(self.samples[["height", "width"]].to_numpy())
        if len(sides) != 1:
            raise InputError(
                f"the images of {self.directory} have sides of {sides[0]:,} to {sides[-1]:,} pixels; "
                f"expected squares of one size: shard with a storage such as square256"
            )
        return int(sides[0])

    @cached_property
    def index_lines(self) -> list[list[str]]:
        """For each tar, one index line a sample."""
        return [(tar.parent / index_name(tar.name)).read_text("ascii").splitlines()[1:] for tar in self.tars]

    def _check_files(self) -> None:
        # After a JPEG, filled up to whole blocks, come a header and at least one byte of the label, or the end mark.
        blocks = -(-self.samples["size"] // BLOCKSIZE) + 1
        ends = (self.samples["offset"] + blocks * BLOCKSIZE + 1).groupby(self.samples["shard"]).max()
        for name, end in ends.items():
            for path in (self.directory / str(name), self.directory / index_name(str(name))):
                if not path.is_file():
                    raise InputError(f"{path} is missing; restore it, or delete {self.directory} to shard again")
            size = (self.directory / str(name)).stat().st_size
            if size < end:
                raise InputError(
                    f"{self.directory / str(name)} holds {size:,} bytes, but its list needs {end:,}: it was cut short; "
                    f"delete {self.directory} to shard again"
                )
