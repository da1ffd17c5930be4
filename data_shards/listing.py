"""A set's shards in, the lists over them out: `samples.parquet`, `classes.parquet` and what else a set tells of itself.

Called by `tasks.workers.close` when every shard is written. Memory does not grow with the number of samples. `_info.json` is
what timm looks for; a competition's hierarchy is in `synsets.parquet`, its costs, where it has any, in `cost_matrix.npy`.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_shards.datasets.dataset import Dataset
from data_shards.datasets.devkit import Devkit
from data_shards.planning import Plan
from data_shards.writing import SAMPLE_LIST, BadImage, part_path

SHARDS_PER_GROUP = 64
"""Of the rows that `samples.parquet` holds together."""


class Lists(NamedTuple):
    """What a set holds."""

    counts: dict[str, int]
    files: dict[str, dict[str, Any]]
    """Size and SHA-256 of each tar and index, as they were written."""


def write_lists(dataset: Dataset, directory: Path, work: Path) -> Lists:
    """Join the parts of every planned shard, in `work`, into the lists of the set, in `directory`.

    Raises:
        FileNotFoundError: a shard is not written yet.
    """
    plan = Plan(work)
    parts = [part_path(plan.name_of(number), work) for number in range(len(plan))]
    bad_images: list[BadImage] = []
    files: dict[str, dict[str, Any]] = {}
    counts = dict.fromkeys(("images", "classes", "shards", "mended", "turned", "bad_images"), 0)
    lengths: list[int] = []
    with pq.ParquetWriter(directory / "samples.parquet", SAMPLE_LIST, compression="zstd") as writer:
        for tables in _grouped(map(pq.read_table, parts)):
            for table in tables:
                about = json.loads(table.schema.metadata[b"about"])
                files |= about["files"]
                lengths.append(len(table))
                bad_images += [BadImage(*fields) for fields in about["bad_images"]]
            group = pa.concat_tables(tables).replace_schema_metadata()
            counts["images"] += len(group)
            counts["mended"] += len(group) - group["mended"].null_count
            counts["turned"] += len(group) - group["orientation"].null_count
            writer.write_table(group)
    info = {"name": plan.split, "num_samples": sum(lengths), "filenames": [p.stem for p in parts], "shard_lengths": lengths}
    (directory / "_info.json").write_text(json.dumps({"splits": {plan.split: info}}))
    classes = _write_classes(dataset, directory)
    if bad_images:
        pd.DataFrame(bad_images, columns=BadImage._fields).to_parquet(directory / "bad_images.parquet", index=False)
    return Lists(counts | {"classes": classes, "shards": len(plan), "bad_images": len(bad_images)}, files)


def _grouped(tables: Iterator[pa.Table]) -> Iterator[list[pa.Table]]:
    while group := list(islice(tables, SHARDS_PER_GROUP)):
        yield group


def _write_classes(dataset: Dataset, directory: Path) -> int:
    """Write the classes and, for a competition, its whole hierarchy and its costs; return the number of classes."""
    classes = pd.DataFrame(
        [(index, *entry) for index, entry in enumerate(dataset.classes())], columns=["class_index", "wnid", "words"]
    )
    devkit = dataset.devkit()
    ids = {} if devkit is None else devkit.ilsvrc_ids
    classes["ilsvrc_id"] = pd.Series([ids.get(wnid) for wnid in classes["wnid"]], dtype="Int32")
    classes.to_parquet(directory / "classes.parquet", index=False)
    if devkit is not None:
        _write_hierarchy(devkit, directory)
    return len(classes)


def _write_hierarchy(devkit: Devkit, directory: Path) -> None:
    pd.DataFrame(devkit.synsets).to_parquet(directory / "synsets.parquet", index=False)
    if devkit.cost_matrix is not None:
        np.save(directory / "cost_matrix.npy", devkit.cost_matrix)
