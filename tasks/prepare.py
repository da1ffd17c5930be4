"""Which splits of a source are there, and everything that a network learns from."""

from pathlib import Path

from base.errors import InputError
from data_shards.datasets.dataset import Source, Split
from data_shards.planning import ShardConfig
from tasks.colours import measure_colours
from tasks.job import Artifact
from tasks.progress import run_log
from tasks.shard import shard_split
from tasks.workspace import Workspace


def choose_splits(source: Source, wanted: list[Split] | None, sources: Path) -> list[Split]:
    """Return the splits to be made: those asked for, or all whose files exist.

    Raises:
        InputError: the dataset has no such split, one that was asked for is missing, or all are.
    """
    splits = source.open(sources).splits()
    for split in wanted or []:
        if split not in splits:
            raise InputError(f"{source.kind} has no split {split}; it has {', '.join(splits)}")
    missing = {split: reason for split in wanted or splits if (reason := splits[split]) is not None}
    if missing and (wanted or len(missing) == len(splits)):
        raise InputError("; ".join(f"{split}: {reason}" for split, reason in missing.items()))
    for split, reason in missing.items():
        run_log().info("%s is left out: %s", split, reason)
    return [split for split in wanted or splits if split not in missing]


def training_set(source: Source, config: ShardConfig, workspace: Workspace) -> dict[str, Artifact]:
    """Return the shards to train and to validate on, and the colours to subtract: `train`, `val` and `colours`."""
    train = shard_split(source, "train", config, workspace)
    held_out: Split = "val" if "val" in source.open(workspace.sources).splits() else "test"
    val = shard_split(source, held_out, config, workspace)
    return {"train": train, "val": val, "colours": measure_colours(train, workspace)}
