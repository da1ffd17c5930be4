"""Finished weights to section 6.1 and a page: `python -m flows.report --help`."""

from pathlib import Path

from prefect import flow

from base.errors import InputError
from data_shards.datasets.dataset import Split
from flows.command_line import run
from flows.presets import PresetName, load_preset
from flows.rows import names_of
from model.retrieval.config import RetrievalConfig
from tasks.compute import choose_compute
from tasks.predict import predict_split
from tasks.section6 import Section6Record, write_section6
from tasks.shard import shard_split
from tasks.train import open_weights
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="report {preset}")
def report(
    weights: list[Path],
    preset: PresetName = "demo",
    source: Path | None = None,
    split: Split = "val",
    names: list[str] | None = None,
    images: list[str] | None = None,
    pixels: bool | None = None,
    bits: list[int] | None = None,
    code_epochs: int | None = None,
    num_shown: int | None = None,
    num_classes: int | None = None,
    device: str = "auto",
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> Section6Record:
    """Measure what networks see and remember: kernels, nearest training images, binary codes; write it all as one page.

    Args:
        weights: Weights files, weights.safetensors of finished runs. The first one's answers and neighbours are shown.
        preset: Which experiment.
        source: Folder or archive that holds the images; synthetic ones need none.
        split: Queries: val, or test if its labels are public. The database is always train.
        names: Names of the networks, one for each weights file. Default: the names of the runs.
        images: Keys of images to show with their five most probable labels, instead of eight that are drawn by their keys.
        pixels: Whether to search by pixels too. Default: the preset's.
        bits: Lengths of the binary codes. Default: the preset's 28 and 256.
        code_epochs: Epochs of the auto-encoders. Default: the preset's.
        num_shown: Queries on the page. Default: the preset's 200.
        num_classes: Number of classes, the first in WNID order, for tiny. Default: the preset's.
        device: auto, cpu, cuda, or two such as cuda:0,cuda:1, which share the images.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work instead.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    plan = load_preset(preset, source, target={"num_classes": num_classes})
    changes = {"pixels": pixels, "bits": bits and tuple(bits), "epochs": code_epochs, "num_shown": num_shown}
    given = {name: value for name, value in changes.items() if value is not None}
    config = (plan.retrieval or RetrievalConfig(pixels=False)).model_copy(update=given)
    compute = choose_compute(device, None)
    networks = dict(zip(names_of(weights, names), map(open_weights, weights), strict=True))
    if len(networks) != len(weights):
        raise InputError(
            f"{len(weights):,} weights files have {len(networks):,} different names; give each its own with --names"
        )
    with locked(workspace, reuse, cluster) as made_in:
        wanted: tuple[Split, ...] = ("train", split)
        shards = {part: shard_split(plan.target, part, plan.shards, made_in) for part in wanted}
        first = next(iter(networks.values()))
        predictions = predict_split([first], shards[split], split, 10, compute, made_in)[0]
        return write_section6(
            preset, networks, shards, split, predictions, plan.table, config, compute, made_in, tuple(images or ())
        )


if __name__ == "__main__":
    run(report)
