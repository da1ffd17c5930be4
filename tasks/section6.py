"""Section 6.1 as one step: kernels, neighbours, codes and the report of finished networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from base.errors import InputError
from data_shards.datasets.dataset import Split
from data_shards.shard_set import ShardSet
from model.retrieval.config import RetrievalConfig
from model.retrieval.rendering import as_markdown, as_text, specialisation_as_text
from tasks.compute import Compute
from tasks.job import Artifact, Weights
from tasks.kernels import write_kernels
from tasks.report import write_report
from tasks.retrieve import embed_split, retrieve, write_retrieval
from tasks.workspace import Workspace


class Section6Record(BaseModel):
    """The main figures as text, and the page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    page: Path

    def __str__(self) -> str:
        return f"{self.text}\n\n{self.page}"


def write_section6(
    name: str,
    networks: Mapping[str, Weights],
    shards: Mapping[Split, Artifact],
    split: Split,
    predictions: Artifact,
    table: str,
    config: RetrievalConfig,
    compute: Compute,
    workspace: Workspace,
    images: tuple[str, ...] = (),
    others: Sequence[Weights] = (),
) -> Section6Record:
    """Measure kernels and retrieval of the networks and write the report; `shards` has `train` and the scored split.

    `predictions` are those of the first network. The page has the error rates of `others` too.

    Raises:
        InputError: the scored split has no labels, or lacks an image that is to be shown.
    """
    _check(shards[split], images)
    specialisation = write_kernels(networks, name, workspace)
    some = dict(list(networks.items())[: config.num_networks])
    pair = (shards["train"], shards[split])
    vectors = (
        embed_split(some, pair[0], "train", config, compute, workspace),
        embed_split(some, pair[1], split, config, compute, workspace),
    )
    retrieved = retrieve(some, pair, vectors, config, workspace)
    rows = write_retrieval(some, retrieved, pair[1], split, config, name, workspace)
    first = next(iter(networks))
    colour = specialisation_as_text(specialisation)
    summary = f"Mean average precision / precision among six:\n\n{as_markdown({name: rows})}\n\n{colour}"
    page = write_report(
        name, networks, table, pair[1], pair[0], predictions, retrieved[first], workspace, images, others, summary
    )
    return Section6Record(text=f"{as_text(rows)}\n\n{colour}", page=page)


def _check(queries: Artifact, images: tuple[str, ...]) -> None:
    """Refuse at once what would end hours of work: queries that cannot be scored, images that are not there."""
    shards = ShardSet.open(queries.path)
    if not shards.labelled:
        raise InputError(f"the images of {shards.directory} have no labels to score neighbours by; choose another split")
    if unknown := [key for key in images if key not in set(shards.samples["key"])]:
        example = shards.samples["key"].iloc[0]
        raise InputError(f"no image {unknown[0]} in {shards.directory}; expected a key such as {example}")
