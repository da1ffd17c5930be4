"""Images to shards: `python -m flows.shard --help`."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from data_shards.datasets.source import Source
from data_shards.writing import ShardConfig
from flows.command_line import run
from flows.presets import PresetName, load_preset
from tasks.shard import measure_colours, shard_split
from tasks.train import TrainingSet
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="shard {preset}")
def shard(
    preset: PresetName = "demo",
    source: Path | None = None,
    side: Annotated[int, Field(ge=64)] | None = None,
    seed: Annotated[int, Field(ge=0)] | None = None,
    workspace: Path = DEFAULT_WORKSPACE,
) -> TrainingSet:
    """Write an experiment's training and validation images as shards and measure their colours.

    Args:
        preset: Which experiment.
        source: Folder or archive that holds the images; synthetic ones need none.
        side: Side in pixels of the stored squares, instead of the preset's.
        seed: Of the shuffle, instead of the preset's.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(preset, source, shards={"side": side, "seed": seed})
    with locked(workspace) as workspace:
        return prepare(plan.target, plan.shards, workspace)


def prepare(source: Source, config: ShardConfig, workspace: Path) -> TrainingSet:
    """Return the shards to train and to validate on, and the colours to subtract."""
    train = shard_split(source, "train", config, workspace)
    val = shard_split(source, "val", config, workspace)
    return TrainingSet(train=train, val=val, colours=measure_colours(train, workspace))


if __name__ == "__main__":
    run(shard)
