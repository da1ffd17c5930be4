"""Test sets and labels that are scored beside a preset's own images."""

from collections.abc import Sequence
from pathlib import Path

from base.errors import InputError
from data_shards.datasets.dataset import Split
from data_shards.planning import ShardConfig
from data_shards.shard_set import ShardSet
from flows.presets import TestSetName, load_preset
from tasks.job import Artifact
from tasks.shard import shard_split
from tasks.tabulate import OtherSet, read_labels
from tasks.workspace import Workspace


def shard_others(
    on: TestSetName | None,
    on_source: Path | None,
    labels: Path | None,
    shards: Artifact,
    split: Split,
    config: ShardConfig,
    workspace: Workspace,
    numbered: Sequence[str] = (),
) -> list[OtherSet]:
    """Return the test set `on`, with the classes of `shards`, and the split by other `labels`, if they are given.

    Folders and labels number the sorted WNIDs of ILSVRC-2012: the classes of `shards`, or those of the networks, `numbered`, if
    these are more. Nothing is predicted yet, so that what does not fit is refused first.

    Raises:
        InputError: a set without its path, labels that do not fit the images, or images without labels.
    """
    if (on is None) != (on_source is None):
        raise InputError("--on and --on-source belong together: the name of a test set, and its archive or folder")
    if on is None and labels is None:
        return []
    scored = ShardSet.open(shards.path)
    if not scored.labelled:
        raise InputError(f"the images of {shards.path} have no labels to compare with; give a labelled split such as val")
    numbers = tuple(sorted(numbered if len(numbered) > len(scored.wnids) else scored.wnids))
    others = []
    if on is not None:
        known = {"classes": tuple(scored.wnids), "numbered": numbers if on == "imagenet-v2" else None}
        source = load_preset(on, on_source, target=known).target
        others.append(OtherSet(shards=shard_split(source, "test", config, workspace), split="test"))
    if labels is not None:
        others.append(OtherSet(shards=shards, split=split, labels=labels, numbered=numbers))
        read_labels(others[-1])
    return others
