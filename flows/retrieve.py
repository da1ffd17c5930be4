"""Your own photographs to the nearest training images: `python -m flows.retrieve --help`."""

from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
from prefect import flow
from pydantic import BaseModel, ConfigDict

from base.errors import InputError
from flows.command_line import run
from flows.presets import PresetName, load_preset
from model.retrieval.config import RetrievalConfig
from tasks.compute import choose_compute
from tasks.job import External
from tasks.jobs.retrieve import NEIGHBOURS
from tasks.jobs.search import PICTURE, SearchJob
from tasks.make import make
from tasks.retrieve import embed_split
from tasks.shard import shard_split
from tasks.train import open_weights
from tasks.workspace import DEFAULT_WORKSPACE, locked


class RetrieveRecord(BaseModel):
    """The nearest training images of every photograph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lines: list[str]
    picture: Path

    def __str__(self) -> str:
        return "\n".join((*self.lines, "", str(self.picture), str(self.picture.with_name(NEIGHBOURS))))


@flow(flow_run_name="retrieve {preset}")
def retrieve(
    image: list[Path],
    weights: Path,
    preset: PresetName = "demo",
    source: Path | None = None,
    num_neighbours: int = 6,
    device: str = "auto",
    cluster: str | None = None,
    reuse: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> RetrieveRecord:
    """Find the training images whose last hidden layer is nearest to that of your photographs.

    Args:
        image: Image files.
        weights: Weights file, weights.safetensors of a finished run.
        preset: Which experiment's training images.
        source: Folder or archive that holds them; synthetic ones need none.
        num_neighbours: How many for each photograph.
        device: auto, cpu or cuda, for embedding the training images.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work instead.
        reuse: Take artefacts that were made by other code from the same inputs and settings, instead of making them again.
        workspace: Folder for everything that is made.
    """
    paths = [path.expanduser().absolute() for path in image]
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"no image {missing[0]}; give the paths of image files")
    plan, network = load_preset(preset, source), open_weights(weights)
    compute = choose_compute(device, None)
    with locked(workspace, reuse, cluster) as made_in:
        shards = shard_split(plan.target, "train", plan.shards, made_in)
        config = RetrievalConfig(pixels=False)
        database = embed_split({"network": network}, shards, "train", config, compute, made_in)["network"]
        job = SearchJob(
            weights=network,
            database=database,
            database_shards=shards,
            images=tuple(External(values={"sha256": sha256(path.read_bytes()).hexdigest()}) for path in paths),
            paths=tuple(paths),
            num_neighbours=num_neighbours,
        )
        made = make([job], made_in)[0]
    rows = pq.read_table(made.path / NEIGHBOURS).to_pylist()
    lines = [f"{row['image']}  {row['rank']}  {row['distance']:8.3f}  {row['words']}  {row['neighbour_id']}" for row in rows]
    return RetrieveRecord(lines=lines, picture=made.path / PICTURE)


if __name__ == "__main__":
    run(retrieve)
