"""Any network's features of a split: `python -m flows.embed --help`."""

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from base.errors import InputError
from data_shards.datasets.dataset import Split
from data_shards.storage import STORAGE_PATTERN
from flows.command_line import run
from flows.presets import PresetName, load_preset
from flows.rows import names_of
from model.evaluation.classifiers import Factory, Triple
from model.retrieval.config import RetrievalConfig
from tasks.compute import choose_compute
from tasks.job import Artifact
from tasks.retrieve import embed_split
from tasks.shard import shard_split
from tasks.train import open_weights
from tasks.workspace import DEFAULT_WORKSPACE, locked


class EmbedRecord(BaseModel):
    """The features of every network, by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: dict[str, Artifact]

    def __str__(self) -> str:
        return "\n".join(f"{name}  {features}" for name, features in self.features.items())


@flow(flow_run_name="embed {preset} {split}")
def embed(
    weights: list[Path],
    preset: PresetName = "demo",
    source: Path | None = None,
    storage: Annotated[str, Field(pattern=STORAGE_PATTERN)] | None = None,
    split: Split = "val",
    factory: str | None = None,
    layer: str | None = None,
    input_size: int = 224,
    mean: Triple = (123.675, 116.28, 103.53),
    scale: Triple = (58.395, 57.12, 57.375),
    dtype: Literal["float32", "float16"] = "float32",
    names: list[str] | None = None,
    device: str = "auto",
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> EmbedRecord:
    """Write a vector for every image of a split: the last hidden layer of a network, or any layer of another network.

    Loading weights runs none of what they hold; the code of a factory is run. docs/retrieval.md describes the files.

    Args:
        weights: Weights files, weights.safetensors of finished runs, or those of any network together with --factory.
        preset: Which experiment's images.
        source: Folder or archive that holds the images; synthetic ones need none.
        storage: How images are stored: square384 or more for a network that reads 384 pixels. Default: the preset's.
        split: Which images: train, val or test.
        factory: What builds a network that is not of this project, package.module:function; it is called without arguments.
        layer: The layer of such a network whose output is the features, as its named_modules calls it.
        input_size: Side in pixels of the crops that such a network reads.
        mean: Of red, green and blue in 0…255, subtracted from every pixel for such a network.
        scale: What is left is divided by these; 255 255 255 with a mean of 0 0 0 gives 0…1.
        dtype: How a value is stored: float32, or float16 in half the space.
        names: Names of the networks, one for each weights file. Default: the folder two above it, or the file.
        device: auto, cpu, cuda, or two such as cuda:0,cuda:1, which share the images.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work instead.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    if (factory is None) != (layer is None):
        raise InputError("a network that is not of this project needs both --factory and --layer; one of ours needs neither")
    plan, compute = load_preset(preset, source, shards={"storage": storage}), choose_compute(device, None)
    networks = dict(zip(names_of(weights, names), map(open_weights, weights), strict=True))
    other = None if factory is None else Factory(factory=factory, input_size=input_size, mean=mean, scale=scale)
    config = RetrievalConfig(pixels=False, dtype=dtype)
    with locked(workspace, reuse, cluster) as made_in:
        shards = shard_split(plan.target, split, plan.shards, made_in)
        return EmbedRecord(features=embed_split(networks, shards, split, config, compute, made_in, other, layer))


if __name__ == "__main__":
    run(embed)
