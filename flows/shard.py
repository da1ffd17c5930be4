"""Images to shards: `python -m flows.shard --help`."""

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field

from data_shards.datasets.dataset import Split
from data_shards.datasets.source import Source
from data_shards.images import STORAGE_PATTERN
from data_shards.planning import ShardConfig
from flows.command_line import run
from flows.presets import PresetName, load_preset
from tasks.artifacts import Artifact
from tasks.cluster import shard_split_on
from tasks.shard import check_md5, measure_colours, shard_split
from tasks.train import TrainingSet
from tasks.workspace import DEFAULT_WORKSPACE, locked

Positive = Annotated[int, Field(gt=0)]


class ShardRecord(BaseModel):
    """The sets that were made or found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sets: dict[str, Artifact]
    """For each split."""

    def as_cells(self) -> list[dict[str, str]]:
        """Return one row a split, every value as text."""
        return [
            {"split": split, **{name: f"{count:,}" for name, count in made.counts.items()}, "path": str(made.path)}
            for split, made in self.sets.items()
        ]

    def __str__(self) -> str:
        return "\n".join(f"{split:7}{made}" for split, made in self.sets.items())


@flow(flow_run_name="shard {dataset}")
def shard(
    dataset: PresetName = "demo",
    archives: Path | None = None,
    splits: list[Split] | None = None,
    storage: Annotated[str, Field(pattern=STORAGE_PATTERN)] | None = None,
    samples_per_shard: Positive | None = None,
    bad_images: Literal["error", "report"] = "error",
    check: bool = True,
    seed: Annotated[int, Field(ge=0)] | None = None,
    wnids: Path | None = None,
    md5: Path | None = None,
    workers: Positive | None = None,
    cluster: str | None = None,
    workspace: Path = DEFAULT_WORKSPACE,
) -> ShardRecord:
    """Write a dataset's images as WebDataset shards, straight from the archives that they come in.

    Args:
        dataset: Which images: ilsvrc2010, ilsvrc2012, fall2009, fall2011, or those of the presets demo, tiny and folder.
        archives: Folder that holds the official archives, or what was unpacked from them; synthetic images need none.
        splits: Some of train, val and test, instead of all whose files are there.
        storage: square256 for the centre square of the image scaled to 256 pixels, shorter256 for all of it, original for its
            own bytes; any other side; instead of the preset's.
        samples_per_shard: Images a tar, instead of the preset's thousand.
        bad_images: error to stop at images that cannot be decoded, report to leave them out and list them.
        check: Whether original images are decoded once to see that they are whole.
        seed: Of the shuffle, instead of the preset's.
        wnids: Text file with the classes to take from a fall release, one WNID a line.
        md5: File as md5sum writes it; archives that it names are read first, and refused where they differ.
        workers: Processes that write shards, instead of one a processor.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers write the shards instead.
        workspace: Folder for everything that is made.
    """
    changes = {
        "storage": storage,
        "samples_per_shard": samples_per_shard,
        "seed": seed,
        "bad_images": bad_images,
        "check": check,
    }
    plan = load_preset(dataset, archives, shards=changes, target={"wnids": wnids})
    with locked(workspace) as workspace:
        sets = {}
        if md5 is not None and plan.target.path is not None:
            check_md5(plan.target.path, md5, workspace)
        for split in choose_splits(plan.target, splits, workspace):
            if cluster is None:
                sets[split] = shard_split(plan.target, split, plan.shards, workspace, workers)
            else:
                sets[split] = shard_split_on(cluster, plan.target, split, plan.shards, workspace)
        record = ShardRecord(sets=sets)
        create_table_artifact(record.as_cells(), key="shards", description=f"Shards of {dataset}")
        return record


def choose_splits(source: Source, wanted: list[Split] | None, workspace: Path) -> list[Split]:
    """Return the splits to be made: those asked for, or all whose files are there.

    Raises:
        FileNotFoundError: one that was asked for is not there, or none is.
        ValueError: the dataset has no such split.
    """
    splits = source.open(workspace / "sources").splits()
    for split in wanted or []:
        if split not in splits:
            raise ValueError(f"{source.kind} has no split {split}; it has {', '.join(splits)}")
    missing = {split: reason for split in wanted or splits if (reason := splits[split]) is not None}
    if missing and (wanted or len(missing) == len(splits)):
        raise FileNotFoundError("; ".join(f"{split}: {reason}" for split, reason in missing.items()))
    for split, reason in missing.items():
        get_run_logger().info("%s is left out: %s", split, reason)
    return [split for split in wanted or splits if split not in missing]


def prepare(source: Source, config: ShardConfig, workspace: Path) -> TrainingSet:
    """Return the shards to train and to validate on, and the colours to subtract."""
    train = shard_split(source, "train", config, workspace)
    held_out: Split = "val" if "val" in source.open(workspace / "sources").splits() else "test"
    val = shard_split(source, held_out, config, workspace)
    return TrainingSet(train=train, val=val, colours=measure_colours(train, workspace))


if __name__ == "__main__":
    run(shard)
