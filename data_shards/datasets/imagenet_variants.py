"""ImageNet-A, ImageNet-R and ImageNet-Sketch: folders of WNIDs. [Hendrycks 2021a, Hendrycks 2021b, Wang 2019]

`imagenet-a.tar`, `imagenet-r.tar`, `ImageNet-Sketch.zip`, or what was unpacked from it. A and R have 200 of the classes of
ILSVRC-2012, Sketch has all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from base.errors import InputError
from data_shards.datasets.dataset import Split
from data_shards.datasets.finding import WNID
from data_shards.datasets.labelled_folders import LabelledFolders, LabelledFoldersSource


class Variant(NamedTuple):
    """One of the sets."""

    patterns: tuple[str, ...]
    """The names of its archive or folder."""
    num_images: int | None
    """As its authors state it."""


VARIANTS = {
    "imagenet-a": Variant(("imagenet-a*",), 7_500),
    "imagenet-r": Variant(("imagenet-r*",), 30_000),
    "imagenet-sketch": Variant(("ImageNet-Sketch*", "imagenet-sketch*", "sketch*"), None),
}


@dataclass(frozen=True)
class ImageNetVariant(LabelledFolders):
    """One of the sets."""

    kind: str = "imagenet-a"

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names of its archive or folder."""
        return VARIANTS[self.kind].patterns

    def is_class_folder(self, name: str) -> bool:
        """Return whether it is a WNID."""
        return bool(WNID.fullmatch(name))

    def wnids_of(self, folders: list[str]) -> list[str]:
        """Return the folders, which are WNIDs.

        Raises:
            InputError: one is not.
        """
        if wrong := [folder for folder in folders if not WNID.fullmatch(folder)]:
            raise InputError(
                f"{self._images} holds images in {wrong[0] or '.'!r}, which is not a WNID; expected a folder such as n01440764 "
                f"for each class of {self.kind}"
            )
        return folders

    def official_count(self, split: Split) -> int | None:
        """Return the number of images that the set's authors state."""
        del split
        return VARIANTS[self.kind].num_images


class ImageNetVariantSource(LabelledFoldersSource):
    """The archive or the folder of one of the sets, or a folder that holds it."""

    kind: Literal["imagenet-a", "imagenet-r", "imagenet-sketch"]
    """(ours) The test set."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> ImageNetVariant:
        """Return the dataset."""
        root, classes, wnids = self.files()
        return ImageNetVariant(root, unpack_dir, classes, wnids, lists, self.kind)
