"""Which dataset, as plain values that a configuration, a job file or a command line can hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from data_shards.datasets.dataset import Dataset
from data_shards.datasets.fall import FALL2009, FALL2011, Fall
from data_shards.datasets.folder import ImageFolder
from data_shards.datasets.ilsvrc import ILSVRC2010, ILSVRC2012, Ilsvrc
from data_shards.datasets.synthetic import Synthetic
from data_shards.datasets.tiny_imagenet import TinyImageNet

Kind = Literal["synthetic", "tiny-imagenet", "folder", "ilsvrc2010", "ilsvrc2012", "fall2009", "fall2011"]

OPTIONS: dict[Kind, set[str]] = {
    "synthetic": {"num_classes", "train_per_class", "val_per_class", "seed"},
    "tiny-imagenet": {"path", "num_classes"},
    "folder": {"path"},
    "ilsvrc2010": {"path"},
    "ilsvrc2012": {"path"},
    "fall2009": {"path", "wnids", "seed"},
    "fall2011": {"path", "wnids", "seed"},
}
"""What each kind takes."""


class Source(BaseModel):
    """A dataset and how much of it is used."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Kind
    """(ours) Where images come from: drawn by the project, read in a public layout, or from the official archives."""

    path: Path | None = None
    """(ours) The folder or archive that holds the images, or the folder of the official archives; none for `synthetic`."""

    num_classes: int | None = Field(None, gt=1)
    """(ours) The first classes in WNID order; all of them where it is not given. 20 or 40 for `synthetic`."""

    train_per_class: int = Field(100, gt=0)
    """(ours) Images drawn a class for training; `synthetic` only."""

    val_per_class: int = Field(50, gt=0)
    """(ours) The same for validation."""

    wnids: Path | None = None
    """[K12 §6] A text file with the classes of a fall release, one WNID a line; all that are there where it is not given."""

    seed: int = Field(0, ge=0)
    """(ours) Of what is drawn: synthetic images, or the images that are held out from a fall release."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] | None = None) -> Dataset:
        """Return the dataset.

        A small archive that cannot be read at random is unpacked into `unpack_dir` when it is first read. `lists` has, for each
        of the dataset's `archives`, the list of its members; samples cannot be asked for without.

        Raises:
            FileNotFoundError: nothing at the path.
            ValueError: a value that the kind does not take, or a path where one is needed.
        """
        idle = [name for name in sorted(self.model_fields_set - {"kind"} - OPTIONS[self.kind]) if self._differs(name)]
        if idle:
            raise ValueError(
                f"{', '.join(idle)} does not apply to {self.kind}; it takes {', '.join(sorted(OPTIONS[self.kind]))}"
            )
        if self.kind == "synthetic":
            return self._synthetic()
        if self.path is None:
            raise ValueError(f"the dataset {self.kind} needs a path: the folder or archive that holds the images")
        path = self.path.expanduser().absolute()
        if not path.exists():
            raise FileNotFoundError(f"no {path}; give the path of the {self.kind} images")
        if self.kind == "tiny-imagenet":
            return TinyImageNet(path, unpack_dir, self.num_classes)
        if not path.is_dir():
            raise ValueError(f"{path} is a file; the dataset {self.kind} needs the folder that holds its archives or images")
        return self._in_folder(path, unpack_dir, lists or {})

    def _in_folder(self, path: Path, unpack_dir: Path, lists: Mapping[Path, Path]) -> Dataset:
        if self.kind == "folder":
            return ImageFolder(path)
        if self.kind in ("ilsvrc2010", "ilsvrc2012"):
            return Ilsvrc(ILSVRC2010 if self.kind == "ilsvrc2010" else ILSVRC2012, path, unpack_dir, lists)
        wnids = self.wnids and self.wnids.expanduser().absolute()
        if wnids and not wnids.is_file():
            raise FileNotFoundError(f"no {wnids}; give the path of a text file with one WNID a line")
        return Fall(FALL2009 if self.kind == "fall2009" else FALL2011, path, wnids, self.seed, lists)

    def _differs(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    def _synthetic(self) -> Synthetic:
        if self.num_classes not in (None, 20, 40):
            raise ValueError(f"the synthetic dataset has 20 classes or 40, not {self.num_classes}")
        num_classes: Literal[20, 40] = 40 if self.num_classes == 40 else 20
        return Synthetic(self.train_per_class, self.val_per_class, num_classes, self.seed)
