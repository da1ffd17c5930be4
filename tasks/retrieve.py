"""Weights and two splits to section 6.1: features, neighbours, codes, and the rows of `retrieval` and `neighbours`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task

from model.evaluation.classifiers import Factory
from model.evaluation.parquet import write_whole
from model.evaluation.schemas import SCHEMA_VERSION, Row, append
from model.network.weights import read_info
from model.retrieval.config import RetrievalConfig
from model.retrieval.schemas import NEIGHBOURS, RETRIEVAL
from tasks.artifacts import read_manifest
from tasks.code import code_version
from tasks.compute import Compute, processors
from tasks.job import Artifact, Weights
from tasks.jobs import retrieve as files
from tasks.jobs.codes import CodesJob
from tasks.jobs.embed import EmbedJob
from tasks.jobs.retrieve import RetrieveJob
from tasks.make import make
from tasks.predict import factory_code
from tasks.provenance import provenance_of
from tasks.shard import dataset_name
from tasks.tabulate import run_id
from tasks.workspace import Workspace

PIXELS = "pixels"
"""The key of the pixels among the vectors of a split."""


@task(task_run_name="embed {split}")
def embed_split(
    networks: Mapping[str, Weights],
    shards: Artifact,
    split: str,
    config: RetrievalConfig,
    compute: Compute,
    workspace: Workspace,
    factory: Factory | None = None,
    layer: str | None = None,
) -> dict[str, Artifact]:
    """Return the features of a split by every network, by the network's name, and its pixels if they are wanted.

    `factory` says how the networks are built and fed if they are not of this project, and `layer` which layer gives features.
    """
    shared: dict[str, Any] = {
        "shards": shards,
        "dataset": dataset_name(shards),
        "split": split,
        **compute.shared(workspace.cluster),
    }
    own: dict[str, Any] = {"layer": layer, "dtype": config.dtype}
    if factory is not None:
        own |= {"factory": factory, "factory_code": factory_code(factory.factory), "factory_folder": Path.cwd()}
    jobs = {name: EmbedJob(weights=weights, **own, **shared) for name, weights in networks.items()}
    if config.pixels:
        first = next(iter(networks.values()))
        crop = read_info(first.path).network.crop if factory is None else factory.input_size
        jobs[PIXELS] = EmbedJob(crop=crop, **shared)
    made = make(list(jobs.values()), workspace, processes=len(compute.devices), gpus=compute.gpus)
    return dict(zip(jobs, made, strict=True))


@task(task_run_name="codes and neighbours")
def retrieve(
    networks: Mapping[str, Weights],
    shards: tuple[Artifact, Artifact],
    vectors: tuple[Mapping[str, Artifact], Mapping[str, Artifact]],
    config: RetrievalConfig,
    workspace: Workspace,
) -> dict[str, Artifact]:
    """Train codes, search and score; return by the network's name `retrieval/<weights>/<key>`.

    `shards` and `vectors` are those of the database (training images) and of the queries.
    """
    codes = _codes(networks, *vectors, config, workspace)
    database, queries = vectors
    jobs = [
        RetrieveJob(
            weights=weights,
            database_shards=shards[0],
            query_shards=shards[1],
            database=database[name],
            queries=queries[name],
            database_pixels=database.get(PIXELS),
            query_pixels=queries.get(PIXELS),
            codes=codes.get(name),
            pixel_codes=codes.get(PIXELS),
            num_queries=config.num_shown,
            name=name,
        )
        for name, weights in networks.items()
    ]
    made = make(jobs, workspace, at_once=processors(), processes=processors())
    return dict(zip(networks, made, strict=True))


@task(task_run_name="tabulate retrieval on {split}")
def write_retrieval(
    networks: Mapping[str, Weights],
    retrieved: Mapping[str, Artifact],
    shards: Artifact,
    split: str,
    config: RetrievalConfig,
    preset: str,
    workspace: Workspace,
) -> list[Row]:
    """Append the rows of all networks to `tables/retrieval.parquet` and `neighbours.parquet`; return those of retrieval."""
    workspace.tables.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[Row]] = {files.NEIGHBOURS: [], files.RETRIEVAL: []}
    images = read_manifest(shards.path).settings
    for name, weights in networks.items():
        same = {
            "dataset": dataset_name(shards),
            "query_split": split,
            "database_split": "train",
            "members": [weights.digest],
            "preset": preset,
            "shards": shards.digest,
            "code_version": code_version(),
            "run_id": run_id(),
            "created_at": datetime.now(UTC),
            "schema_version": SCHEMA_VERSION,
            **provenance_of([weights], {"images": images, "retrieval": config.model_dump(mode="json")}),
        }
        for file, found in rows.items():
            found += [{**row, **same} for row in pq.read_table(retrieved[name].path / file).to_pylist()]
    for file, schema in ((files.NEIGHBOURS, NEIGHBOURS), (files.RETRIEVAL, RETRIEVAL)):
        write_whole(workspace.tables / file, [append(_known(workspace.tables / file), rows[file], schema)], schema)
    return rows[files.RETRIEVAL]


def _codes(
    networks: Mapping[str, Weights],
    database: Mapping[str, Artifact],
    queries: Mapping[str, Artifact],
    config: RetrievalConfig,
    workspace: Workspace,
) -> dict[str, Artifact]:
    """The codes of every network's features by its name, and those of the pixels, several at a time."""
    jobs: dict[str, CodesJob] = {}
    width = database[next(iter(networks))].counts["values"]  # pixels go through the same layers
    first_seeds = ({PIXELS: 0} if PIXELS in database else {}) | {name: number for number, name in enumerate(networks)}
    for name, first in first_seeds.items():  # pixels have more values, and the longest job comes first
        seeds = tuple(range(config.num_seeds)) if config.num_seeds > 1 else (first,)
        jobs[name] = CodesJob(
            database=database[name],
            queries=queries[name],
            thumbnails=name == PIXELS,
            methods=config.methods if name != PIXELS else ("autoencoder",),
            bits=config.bits,
            seeds=seeds,
            hidden=(width // 2, width // 4),
            epochs=config.epochs,
            batch_size=config.batch_size,
            name=name,
        )
    return dict(zip(jobs, make(list(jobs.values()), workspace, at_once=processors()), strict=True))


def _known(path: Path) -> pa.Table | None:
    return pq.read_table(path) if path.exists() else None
