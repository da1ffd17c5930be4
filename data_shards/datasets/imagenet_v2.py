"""ImageNetV2: 10,000 new images chosen as those of ILSVRC-2012 were, in three variants. [github.com/modestyachts/ImageNetV2]

`imagenetv2-matched-frequency.tar.gz` and so on, or what was unpacked from it: folders `0` to `999` of ten images each. A
folder's name is the number of its class among the sorted WNIDs of ILSVRC-2012. Names that are sorted as text (0, 1, 10, 100)
would give 988 of the 1,000 classes another one's images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from base.errors import InputError
from data_shards.datasets.class_lists import existing_list, read_wnids
from data_shards.datasets.dataset import Split, UserPath
from data_shards.datasets.labelled_folders import LabelledFolders, LabelledFoldersSource, digest_of

VARIANTS = {
    "matched-frequency": "matched-frequency",
    "threshold0.7": "threshold-0.7",
    "threshold-0.7": "threshold-0.7",
    "top-images": "top-images",
}
"""[imagenetv2 README] By what a file's or folder's name holds."""


@dataclass(frozen=True)
class ImageNetV2(LabelledFolders):
    """One variant."""

    numbered: tuple[str, ...] = ()
    """The WNID of each folder's number, sorted."""

    patterns = ("imagenetv2-*", "imagenet-v2-*")

    @property
    def kind(self) -> str:
        """`imagenet-v2-matched-frequency` and so on."""
        names = [path.name.lower() for path in (self._images, self._images.parent)]
        found = {variant for mark, variant in VARIANTS.items() if mark in names[0]}
        found = found or {variant for mark, variant in VARIANTS.items() if mark in names[1]}
        if len(found) != 1:
            raise InputError(
                f"the name of {self._images} does not say which variant of ImageNetV2 it is; expected "
                f"{', '.join(sorted(set(VARIANTS.values())))} in it, as in imagenetv2-matched-frequency.tar.gz: rename it"
            )
        return f"imagenet-v2-{found.pop()}"

    def is_class_folder(self, name: str) -> bool:
        """Return whether it is a number."""
        return name.isdecimal()

    def wnids_of(self, folders: list[str]) -> list[str]:
        """Return the WNID that has each folder's number among the sorted ones.

        Raises:
            InputError: a folder that is not a number, or other numbers than those of the list.
        """
        if wrong := [folder for folder in folders if not folder.isdecimal()]:
            raise InputError(
                f"{self._images} holds images in the folder {wrong[0]!r}; expected folders 0 to 999, each the number of its "
                f"class among the sorted WNIDs: this copy was renamed, fetch the original"
            )
        numbers = [int(folder) for folder in folders]
        if sorted(numbers) != list(range(len(self.numbered))):
            raise InputError(
                f"{self._images} holds {len(folders):,} folders numbered {min(numbers):,} to {max(numbers):,}, and the list "
                f"has {len(self.numbered):,} WNIDs; expected one folder for each: a number is the place of a class among the "
                f"sorted 1,000 WNIDs of ILSVRC-2012"
            )
        return [self.numbered[number] for number in numbers]

    def identity(self, split: Split) -> dict[str, Any]:
        """Return also the WNIDs that the folders number."""
        return {**super().identity(split), "numbered": digest_of(self.numbered)}

    def official_count(self, split: Split) -> int:
        """Return the number of images of each variant."""
        del split
        return 10_000


class ImageNetV2Source(LabelledFoldersSource):
    """The archive or the folder of one variant, or a folder that holds one of them."""

    kind: Literal["imagenet-v2"] = "imagenet-v2"
    """(ours) The test set."""

    numbered: tuple[str, ...] = ()
    """(ours) The WNIDs whose places the folders' names are; by default the networks' classes."""

    class_list: UserPath | None = None
    """(ours) A text file with these WNIDs, one a line in any order, where there are no networks."""

    def open(self, unpack_dir: Path, lists: Mapping[Path, Path] = {}) -> ImageNetV2:
        """Return the dataset.

        Raises:
            InputError: a missing path, or nothing that says which WNIDs the folders number.
        """
        root, classes, wnids = self.files()
        listed = existing_list(self.class_list)
        numbered = read_wnids(listed) if listed else sorted(self.numbered or classes)
        if not numbered:
            raise InputError(
                "the folders of imagenet-v2 are numbers of classes; give --class-list with the 1,000 WNIDs of ILSVRC-2012, "
                "one a line, which they number in sorted order"
            )
        return ImageNetV2(root, unpack_dir, classes, wnids, lists, tuple(numbered))
