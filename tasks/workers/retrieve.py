"""Ranked blocks of queries to the rows of both tables: `python -m tasks.workers.retrieve JOB.json ...`.

A block that worker `rank` has not ranked is ranked here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base.files import atomic_write
from base.progress import Progress
from model.retrieval.rows import score_columns
from model.retrieval.schemas import RETRIEVAL as RETRIEVAL_COLUMNS
from tasks.job import WORK, Share
from tasks.jobs.retrieve import NEIGHBOURS, RETRIEVAL, RetrieveJob
from tasks.workers.entry import Counts, run_worker
from tasks.workers.rank import blocks_of, methods_of, neighbours_path, open_artifact, rank_missing, score_key, scores_path

OF_CODES = ("dead_bits", "distinct_codes", "reconstruction_val")
"""Measures of a code that are columns."""


def main(job: RetrieveJob, directory: Path, progress: Progress, share: Share) -> Counts:
    """Join the blocks; write a row of scores for each method, and the neighbours of the queries that are listed."""
    del share
    work, queries, methods = directory / WORK, open_artifact(job.queries), methods_of(job)
    num_database = len(open_artifact(job.database))
    rank_missing(job, work, progress, Share())
    blocks = blocks_of(job, queries)
    scores = [dict(np.load(scores_path(work, rows))) for rows in blocks]
    rows = [
        {
            **method.columns,
            **score_columns(_joined(scores, number), num_database),
            **{name: method.measures.get(name) for name in OF_CODES},
        }
        for number, method in enumerate(methods)
    ]
    _write(directory / NEIGHBOURS, _in_order([pq.read_table(neighbours_path(work, rows)) for rows in blocks], len(methods)))
    _write(directory / RETRIEVAL, pa.Table.from_pylist(rows, schema=RETRIEVAL_COLUMNS))
    return {"queries": len(queries), "database": num_database, "rankings": len(methods)}


def _joined(blocks: list[dict[str, NDArray[Any]]], number: int) -> dict[str, NDArray[Any]]:
    """The scores of all queries by one method, by name."""
    start = score_key(number, "")
    names = [key.removeprefix(start) for key in blocks[0] if key.startswith(start)]
    return {name: np.concatenate([block[score_key(number, name)] for block in blocks]) for name in names}


def _in_order(blocks: list[pa.Table], num_methods: int) -> pa.Table:
    """All neighbours by the first method, then all by the second."""
    sizes = [len(table) // num_methods for table in blocks]
    return pa.concat_tables(
        table.slice(number * size, size) for number in range(num_methods) for table, size in zip(blocks, sizes, strict=True)
    ).combine_chunks()


def _write(path: Path, table: pa.Table) -> None:
    with atomic_write(path) as file:
        pq.write_table(table, file)


if __name__ == "__main__":
    run_worker(RetrieveJob, main)
