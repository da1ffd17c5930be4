"""Images to shards: `python -m flows.shard --help`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field

from data_shards.datasets.class_lists import existing_list, nfc, read_class_list
from data_shards.datasets.dataset import Split
from data_shards.storage import STORAGE_PATTERN
from flows.command_line import run
from flows.presets import PresetName, load_preset
from tasks.checksums import check_md5
from tasks.job import Artifact
from tasks.prepare import choose_splits
from tasks.shard import shard_split
from tasks.workspace import DEFAULT_WORKSPACE, locked

IGNORED = "ignored "
"""How the counts of files that are not images begin."""
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
        return "\n".join(f"{split:7}{made.path}\n{'':7}{summary(made.counts)}" for split, made in self.sets.items())


NOTABLE = {
    "mended": ("1 image converted from another format", "{} images converted from other formats"),
    "turned": ("1 image turned upright", "{} images turned upright"),
    "bad_images": ("1 image left out that cannot be decoded", "{} images left out that cannot be decoded"),
    "classes_without_images": ("1 class without images", "{} classes without images"),
}
"""What is said about counts that are not zero."""


def summary(counts: Mapping[str, int]) -> str:
    """Return `1,000 images of 20 classes in 1 shard; 3 images turned upright`."""
    images, classes, shards = (
        _number(counts[f"{name}{plural}"], name, plural) for name, plural in (("image", "s"), ("class", "es"), ("shard", "s"))
    )
    parts = [f"{images} of {classes} in {shards}"]
    parts += [
        (one if counts[name] == 1 else many).format(f"{counts[name]:,}")
        for name, (one, many) in NOTABLE.items()
        if counts.get(name)
    ]
    ignored = [f"{name.removeprefix(IGNORED)} ({count:,})" for name, count in counts.items() if name.startswith(IGNORED)]
    return "; ".join([*parts, *([f"ignored: {', '.join(ignored)}"] if ignored else [])])


def _number(count: int, name: str, plural: str) -> str:
    return f"{count:,} {name}{plural if count != 1 else ''}"


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
    num_classes: Annotated[int, Field(gt=1)] | None = None,
    class_list: Path | None = None,
    label: str | None = None,
    md5: Path | None = None,
    workers: Positive | None = None,
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> ShardRecord:
    """Write a dataset's images as WebDataset shards, straight from the archives that they come in.

    Args:
        dataset: Which images: ilsvrc2010, ilsvrc2012, fall2009, fall2011, winter21, parquet (Hugging Face), wds (WebDataset
            tars), imagenette, imagewoof, the test sets imagenet-v2, imagenet-a, imagenet-r and imagenet-sketch, or those of the
            presets demo, tiny and folder.
        archives: Folder that holds the official archives, or what was unpacked from them; for ilsvrc2012 also Hugging Face's
            files, Kaggle's or timm's. Synthetic images need none.
        splits: Some of train, val and test, instead of all whose files are there.
        storage: square256 for the centre square of the image scaled to 256 pixels, shorter256 for all of it, original for its
            own bytes; or any other side. Default: the preset's.
        samples_per_shard: Images per tar. Default: the preset's thousand.
        bad_images: error to stop at images that cannot be decoded, report to leave them out and list them.
        check: Whether original images are decoded once to see that they are intact.
        seed: Seed of the shuffle. Default: the preset's.
        wnids: Text file with the classes to take from the dataset, one WNID or class folder a line.
        num_classes: How many classes of tiny, the first in WNID order, or of demo (20 or 40). Default: the list's, or the
            preset's.
        class_list: Text file with the class of each number of wds, one a line. Default: classes.txt beside the tars. For
            imagenet-v2 the 1,000 WNIDs, in any order.
        label: Field of the JSON files of wds that holds the class. Default: label.
        md5: File as md5sum writes it; archives that it names are read first, and refused if they differ.
        workers: Processes that write shards. Default: one per processor.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work instead.
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
    if dataset == "tiny" and num_classes is None and (listed := existing_list(wnids)):
        num_classes = len({nfc(name) for name in read_class_list(listed)})  # and not the preset's
    plan = load_preset(
        dataset,
        archives,
        shards=changes,
        target={"wnids": wnids, "num_classes": num_classes, "class_list": class_list, "label": label},
    )
    with locked(workspace, reuse, cluster) as made_in:
        if md5 is not None and archives is not None:
            check_md5(archives, md5, made_in)
        chosen = choose_splits(plan.target, splits, made_in.sources)
        sets = {split: shard_split(plan.target, split, plan.shards, made_in, workers) for split in chosen}
        record = ShardRecord(sets={str(split): made for split, made in sets.items()})
        create_table_artifact(record.as_cells(), key="shards", description=f"Shards of {dataset}")
        return record


if __name__ == "__main__":
    run(shard)
