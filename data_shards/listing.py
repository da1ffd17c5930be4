"""A set's shards to the lists of the set: `samples.parquet`, `classes.parquet` and the rest of its metadata.

Called by `tasks.workers.close` when every shard is written. Memory does not grow with the number of samples. timm reads
`_info.json`; a competition's hierarchy is in `synsets.parquet`, its costs, if it has any, in `cost_matrix.npy`.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from base.files import write_text
from data_shards.datasets.dataset import Dataset
from data_shards.datasets.devkit import Devkit
from data_shards.planning import Plan
from data_shards.shard_format import (
    BAD_IMAGE_LIST,
    CLASS_LIST,
    CLASSES_FILE,
    SAMPLE_LIST,
    SAMPLES_FILE,
    BadImage,
    as_table,
    part_path,
)

SHARDS_PER_GROUP = 64
"""Shards whose rows make one row group of `samples.parquet`."""


class Lists(NamedTuple):
    """The content of a set."""

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
    with pq.ParquetWriter(directory / SAMPLES_FILE, SAMPLE_LIST, compression="zstd") as writer:
        for tables in _grouped(map(read_part, parts)):
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
    write_text(directory / "_info.json", json.dumps({"splits": {plan.split: info}}))
    if bad_images:
        pq.write_table(as_table(bad_images, BAD_IMAGE_LIST), directory / "bad_images.parquet")
    classes = _write_classes(dataset, directory)
    return Lists(counts | {"classes": classes, "shards": len(plan), "bad_images": len(bad_images)}, files)


def classes_without_images(directory: Path) -> list[str]:
    """Return the WNIDs of a set's classes of which it holds no image; none if its labels are not public."""
    with pq.ParquetFile(directory / CLASSES_FILE) as classes, pq.ParquetFile(directory / SAMPLES_FILE) as samples:
        batches = samples.iter_batches(columns=["class_index"])
        found = {index for batch in batches for index in batch["class_index"].unique().to_pylist()} - {None}
        wnids = classes.read(["class_index", "wnid"]).to_pylist()
    return [row["wnid"] for row in wnids if found and row["class_index"] not in found]


def read_part(path: Path) -> pa.Table:
    """Return one shard's rows; `pq.read_table` would import pyarrow's datasets, a quarter of a second."""
    with pq.ParquetFile(path) as file:
        return file.read()


def _grouped(tables: Iterator[pa.Table]) -> Iterator[list[pa.Table]]:
    while group := list(islice(tables, SHARDS_PER_GROUP)):
        yield group


def _write_classes(dataset: Dataset, directory: Path) -> int:
    """Write the classes and, for a competition, its whole hierarchy and its costs; return the number of classes."""
    devkit = dataset.devkit()
    ids = {} if devkit is None else devkit.ilsvrc_ids
    classes = [(index, wnid, words, ids.get(wnid)) for index, (wnid, words) in enumerate(dataset.classes())]
    pq.write_table(as_table(classes, CLASS_LIST), directory / CLASSES_FILE)
    if devkit is not None:
        _write_hierarchy(devkit, directory)
    return len(classes)


def _write_hierarchy(devkit: Devkit, directory: Path) -> None:
    pq.write_table(pa.Table.from_pylist([synset._asdict() for synset in devkit.synsets]), directory / "synsets.parquet")
    if devkit.cost_matrix is not None:
        np.save(directory / "cost_matrix.npy", devkit.cost_matrix)
