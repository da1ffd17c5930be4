"""Images to shards: `python -m flows.shard --help`."""

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field

from data_shards.datasets.dataset import Split
from data_shards.storage import STORAGE_PATTERN
from flows.command_line import run
from flows.presets import PresetName, load_preset
from tasks.checksums import check_md5
from tasks.job import Artifact
from tasks.prepare import choose_splits
from tasks.shard import shard_split
from tasks.workspace import DEFAULT_WORKSPACE, locked

Positive = Annotated[int, Field(gt=0)]


class ShardRecord(BaseModel):
    """The sets that were made or found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sets: dict[str, Artifact]
    """For each split."""

    def as_cells(self) -> list[dict[str, str]]:
        """Return one row per split, every value as text."""
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
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> ShardRecord:
    """Write a dataset's images as WebDataset shards, straight from the archives that they come in.

    Args:
        dataset: Which images: ilsvrc2010, ilsvrc2012, fall2009, fall2011, or those of the presets demo, tiny and folder.
        archives: Folder that holds the official archives, or what was unpacked from them; synthetic images need none.
        splits: Some of train, val and test, instead of all whose files are there.
        storage: square256 for the centre square of the image scaled to 256 pixels, shorter256 for all of it, original for its
            own bytes; or any other side. Default: the preset's.
        samples_per_shard: Images per tar. Default: the preset's thousand.
        bad_images: error to stop at images that cannot be decoded, report to leave them out and list them.
        check: Whether original images are decoded once to see that they are intact.
        seed: Seed of the shuffle. Default: the preset's.
        wnids: Text file with the classes to take from a fall release, one WNID per line.
        md5: File as md5sum writes it; archives that it names are read first, and refused if they differ.
        workers: Processes that write shards. Default: one per processor.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers write the shards instead.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
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
    with locked(workspace, reuse) as made_in:
        if md5 is not None and archives is not None:
            check_md5(archives, md5, made_in)
        chosen = choose_splits(plan.target, splits, made_in.sources)
        sets = {split: shard_split(plan.target, split, plan.shards, made_in, workers, cluster) for split in chosen}
        record = ShardRecord(sets={str(split): made for split, made in sets.items()})
        create_table_artifact(record.as_cells(), key="shards", description=f"Shards of {dataset}")
        return record


if __name__ == "__main__":
    run(shard)
