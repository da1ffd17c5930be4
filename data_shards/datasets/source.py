"""Which dataset, as plain values that a configuration, a job file or a command line can hold."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from data_shards.datasets.dataset import Dataset
from data_shards.datasets.folder import ImageFolder
from data_shards.datasets.synthetic import Synthetic
from data_shards.datasets.tiny_imagenet import TinyImageNet

Kind = Literal["synthetic", "tiny-imagenet", "folder"]


class Source(BaseModel):
    """A dataset and how much of it is used."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Kind
    """(ours) Where images come from: drawn by the project, Tiny ImageNet in its public layout, or class folders."""

    path: Path | None = None
    """(ours) The folder or archive; none for `synthetic`."""

    num_classes: int | None = Field(None, gt=1)
    """(ours) The first classes in WNID order; all of them where it is not given. 20 or 40 for `synthetic`."""

    train_per_class: int = Field(100, gt=0)
    """(ours) Images drawn a class for training; `synthetic` only."""

    val_per_class: int = Field(50, gt=0)
    """(ours) The same for validation."""

    seed: int = Field(0, ge=0)
    """(ours) Of what is drawn; `synthetic` only."""

    def open(self, unpack_dir: Path) -> Dataset:
        """Return the dataset; an archive that cannot be read at random is unpacked into `unpack_dir` when it is first read.

        Raises:
            ValueError: a path where none belongs, none where one is needed, or a number of classes that is not to be had.
        """
        if self.kind == "synthetic":
            return self._synthetic()
        drawn = ("train_per_class", "val_per_class", "seed")
        idle = [name for name in drawn if getattr(self, name) != type(self).model_fields[name].default]
        if idle:
            raise ValueError(f"{', '.join(idle)} applies to synthetic only; the dataset {self.kind} is used whole")
        if self.path is None:
            raise ValueError(f"the dataset {self.kind} needs a path: the folder or archive that holds the images")
        path = self.path.expanduser().absolute()
        if not path.exists():
            raise FileNotFoundError(f"no {path}; give the path of the {self.kind} images")
        if self.kind == "tiny-imagenet":
            return TinyImageNet(path, unpack_dir, self.num_classes)
        if self.num_classes is not None:
            raise ValueError("num_classes applies to synthetic and tiny-imagenet; a folder's classes are its class folders")
        return ImageFolder(path)

    def _synthetic(self) -> Synthetic:
        if self.path is not None:
            raise ValueError(f"the synthetic dataset is drawn, not read; drop the path {self.path} or name another dataset")
        if self.num_classes not in (None, 20, 40):
            raise ValueError(f"the synthetic dataset has 20 classes or 40, not {self.num_classes}")
        num_classes: Literal[20, 40] = 40 if self.num_classes == 40 else 20
        return Synthetic(self.train_per_class, self.val_per_class, num_classes, self.seed)
