"""Two sets to what has changed between them, by the SHA-256 of the source files; names and times of change do not matter.

Called by `tasks.retrain` before a network is trained: what was added, removed and relabelled since the champion's training set,
and which training images are in the evaluation set too. A file that was saved again, in another quality say, is another image.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_shards.shard_format import CLASSES_FILE, SAMPLES_FILE

IMAGE = "source_sha256"


@dataclass(frozen=True)
class Changes:
    """How a training set differs from an earlier one. Equal files count once."""

    added: int
    removed: int
    relabelled: int
    """Images of both sets whose classes differ."""
    classes_added: list[str]
    classes_removed: list[str]
    num_before: int
    """Different images of the earlier set."""

    @property
    def share_removed(self) -> float:
        """Fraction of the earlier images that are gone."""
        return self.removed / self.num_before


def compare_sets(before: Path, now: Path) -> Changes:
    """Return how the set in the folder `now` differs from that in `before`."""
    old, new = (_read(path, ["wnid"]).drop_duplicates() for path in (before, now))
    both = old.merge(new, how="outer", indicator="where")
    differing = both.loc[both["where"] != "both", IMAGE]
    known, present = set(old[IMAGE]), set(new[IMAGE])
    classes = [set(_classes(path)) for path in (before, now)]
    return Changes(
        added=len(present - known),
        removed=len(known - present),
        relabelled=len(set(differing) & known & present),
        classes_added=sorted(classes[1] - classes[0]),
        classes_removed=sorted(classes[0] - classes[1]),
        num_before=len(known),
    )


def overlap(train: Path, evaluation: Path) -> list[str]:
    """Return the training images whose bytes are in the evaluation set too: `train n01/a.jpg = val n02/b.jpg`."""
    pairs = _read(train, ["wnid", "name"]).merge(_read(evaluation, ["wnid", "name"]), on=IMAGE).sort_values(IMAGE)
    places = ["wnid_x", "name_x", "wnid_y", "name_y"]
    return [
        f"{train.parent.name} {wnid}/{name} = {evaluation.parent.name} {other}/{copy}"
        for wnid, name, other, copy in pairs.drop_duplicates(IMAGE)[places].itertuples(index=False)
    ]


def _read(directory: Path, columns: list[str]) -> pd.DataFrame:
    return pd.read_parquet(directory / SAMPLES_FILE, columns=[IMAGE, *columns])


def _classes(directory: Path) -> list[str]:
    return list(pd.read_parquet(directory / CLASSES_FILE, columns=["wnid"])["wnid"])
