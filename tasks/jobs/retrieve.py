"""Nearest training images of one network's queries: `retrieval/<weights>/<key>` with `neighbours.parquet`, `retrieval.parquet`.

Worker `rank` (any number of processes) searches by features, by pixels and by codes for blocks of queries and scores every
ranking; worker `retrieve` joins the blocks, and ranks those that are missing: of few queries, the only one. Both take several
networks, one after the other. The rows have no provenance yet; `tasks.retrieve` adds it and appends them to the tables.
"""

from pathlib import Path
from typing import ClassVar

from tasks.job import Artifact, Job, Resource, Weights

NEIGHBOURS = "neighbours.parquet"
RETRIEVAL = "retrieval.parquet"


class RetrieveJob(Job):
    """One network's rankings."""

    stages: ClassVar = ("rank", "retrieve")
    shared_stage: ClassVar = "rank"
    together: ClassVar = True
    resumable: ClassVar = True
    libraries: ClassVar = ("numpy", "faiss-cpu")

    weights: Weights
    query_shards: Artifact
    database_shards: Artifact
    queries: Artifact
    """Features."""
    database: Artifact
    query_pixels: Artifact | None = None
    database_pixels: Artifact | None = None
    codes: Artifact | None = None
    """Of the features."""
    pixel_codes: Artifact | None = None
    num_queries: int | None = None
    """How many queries are listed with their neighbours, chosen by their keys; None for all. All are scored."""
    name: Resource[str]
    num_threads: Resource[int] = 1
    queries_at_once: Resource[int] = 1024
    """(ours) Queries of a block. Each block reads the whole database, and converts it to float64."""

    @property
    def title(self) -> str:
        """`neighbours of demo-cnn-0`."""
        return f"neighbours of {self.name}"

    @property
    def folder(self) -> Path:
        """`retrieval/<weights>`."""
        return Path("retrieval", self.weights.digest[:12])

    def num_units(self, directory: Path) -> int:
        """Return the number of blocks of queries; 0 if there is one, for which a second process is not worth its start."""
        del directory
        num_blocks = -(-self.queries.counts["images"] // self.queries_at_once)
        return num_blocks if num_blocks > 1 else 0
