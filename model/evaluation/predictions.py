"""The predictions of one network for every image of a split: a Parquet file from which any error rate can be recomputed.

Columns: image_id, wnid, rank (of the true class, from 1), log_prob (of the true class), top5_wnid, top5_prob, and for up to
2,000 classes probs (float32). Without labels wnid, rank and log_prob are null. The metadata of the file holds its provenance.
`tasks.workers.predict` writes one part per shard and joins them; `tasks.tabulate` reads the file in blocks.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from base.errors import InputError
from model.evaluation.answers import Answers, Labels, judge
from model.evaluation.error_rates import NUM_BEST
from model.evaluation.parquet import write_whole

MAX_CLASSES_WITH_PROBS = 2000
METADATA_KEY = b"predictions"
ROWS_AT_ONCE = 128
"""(ours) With 1,000 classes half a megabyte, which fits into the cache of a core."""

FORMAT: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": ["wnid", "top5_wnid.list.element"],
    "write_statistics": False,
}
"""(ours) Probabilities hardly compress, and uncompressed floats are read at the speed of memory."""


def write_part(
    path: Path, image_ids: Sequence[str], class_indices: NDArray[np.int64] | None, probs: Tensor, about: dict[str, Any]
) -> None:
    """Write one row per image, in the order given. `about` is the provenance, with the `wnids` of the classes.

    Raises:
        InputError: a probability is not a finite number.
        ValueError: there is not one row per image and one probability per class.
    """
    wnids = pa.array(about["wnids"])
    if tuple(probs.shape) != (len(image_ids), len(wnids)):
        raise ValueError(
            f"probabilities of shape {tuple(probs.shape)} for {len(image_ids):,} images of {len(wnids):,} classes; "
            f"a dropped last batch or a repeated shard would do this"
        )
    best, labels = judge(probs, class_indices)
    best_probs = probs.gather(1, torch.from_numpy(best))
    unknown = pa.nulls(len(image_ids))
    columns = [
        pa.array(image_ids, pa.string()),
        unknown.cast(pa.string()) if labels is None else wnids.take(pa.array(labels.class_indices)),
        unknown.cast(pa.int32()) if labels is None else pa.array(labels.ranks, pa.int32()),
        unknown.cast(pa.float64()) if labels is None else pa.array(labels.log_probs),
        pa.FixedSizeListArray.from_arrays(wnids.take(pa.array(best.reshape(-1))), best.shape[1]),
        pa.FixedSizeListArray.from_arrays(pa.array(best_probs.flatten().numpy()), best.shape[1]),
    ]
    if len(wnids) <= MAX_CLASSES_WITH_PROBS:
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(probs.flatten().numpy()), len(wnids)))
    schema = _schema(about)
    write_whole(path, [pa.table(columns, schema=schema)], schema, **FORMAT)


def join_parts(parts: Sequence[Path], image_ids: Sequence[str], path: Path) -> None:
    """Write the rows of the parts into one file, in the order given; they must be the images `image_ids`, each once.

    Raises:
        InputError: a part is missing or cut short, or the images are others.
    """
    files = [open_predictions(part) for part in parts]
    found = [image_id for file in files for image_id in file.image_ids]
    if found != list(image_ids):
        raise InputError(
            f"the parts of {path} hold {len(found):,} images, {len(set(found)):,} of them different, "
            f"but its shards hold {len(image_ids):,}, or others; delete {path.parent} to predict again"
        )
    write_whole(path, (table for file in files for table in file.row_groups()), files[0].file.schema_arrow, **FORMAT)


def open_predictions(path: Path) -> "PredictionsFile":
    """Open a predictions file and read its metadata, not yet its rows.

    Raises:
        InputError: there is no such file, it is not a predictions file, or it is cut short.
    """
    if not path.is_file():
        raise InputError(f"no predictions file {path}; make it with python -m flows.evaluate")
    try:
        file = pq.ParquetFile(path, pre_buffer=False)  # otherwise all of it is read ahead into memory
        about = json.loads((file.schema_arrow.metadata or {})[METADATA_KEY])
        return PredictionsFile(path, file, about, about["wnids"])
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a whole predictions file ({_first_line(error)}); predict again") from error


@dataclass(frozen=True)
class PredictionsFile:
    """An open predictions file."""

    path: Path
    file: pq.ParquetFile
    about: dict[str, Any]
    """Its provenance."""
    wnids: list[str]
    """The WNID of each class index."""

    def __len__(self) -> int:
        return int(self.file.metadata.num_rows)

    @cached_property
    def image_ids(self) -> list[str]:
        """Every image, in the order of the rows."""
        ids: list[str] = self._read("image_id")["image_id"].to_pylist()
        return ids

    @cached_property
    def class_indices(self) -> NDArray[np.int64] | None:
        """(N,) The true classes; None if the split has no labels.

        Raises:
            InputError: only some images have a label, or a label is not among the classes.
        """
        wnids = self._read("wnid")["wnid"].combine_chunks()
        if wnids.null_count == len(wnids):
            return None
        indices = self._indices(wnids)
        if indices.null_count:
            raise InputError(
                f"{self.path}: {indices.null_count:,} of {len(self):,} images have no label, or one that is not among its "
                f"{len(self.wnids):,} classes; predict again"
            )
        return np.array(indices, np.int64)

    def answers(self) -> Answers:
        """Return the answers of the network, without reading the probabilities."""
        table = self._read("rank", "log_prob", "top5_wnid")
        best = np.asarray(self._indices(table["top5_wnid"].combine_chunks().flatten()), np.int64)
        labels = None
        if self.class_indices is not None:
            labels = Labels(self.class_indices, np.asarray(table["rank"], np.int64), np.asarray(table["log_prob"]))
        return Answers(self.image_ids, self.wnids, best.reshape(len(self), min(NUM_BEST, len(self.wnids))), labels)

    def probs(self) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities in blocks of images: (≤ 128, classes).

        Raises:
            InputError: the file has none, because it has more than 2,000 classes.
        """
        if "probs" not in self.file.schema_arrow.names:
            raise InputError(
                f"{self.path} has {len(self.wnids):,} classes and keeps no full probabilities above "
                f"{MAX_CLASSES_WITH_PROBS:,}; its networks cannot be averaged"
            )
        for batch in self.file.iter_batches(ROWS_AT_ONCE, columns=["probs"], use_threads=False):
            yield np.asarray(batch["probs"].flatten()).reshape(len(batch), len(self.wnids))

    def row_groups(self) -> Iterator[pa.Table]:
        """Yield all columns in blocks, as they were written."""
        for number in range(self.file.num_row_groups):
            yield self.file.read_row_group(number)

    def _read(self, *columns: str) -> pa.Table:
        try:
            return self.file.read(columns=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{self.path} is damaged ({_first_line(error)}); predict again") from error

    def _indices(self, wnids: pa.Array) -> pa.Array:
        return pc.index_in(wnids, value_set=pa.array(self.wnids))


def _schema(about: dict[str, Any]) -> pa.Schema:
    num_classes = len(about["wnids"])
    num_best = min(NUM_BEST, num_classes)
    fields = [
        ("image_id", pa.string()),
        ("wnid", pa.string()),
        ("rank", pa.int32()),
        ("log_prob", pa.float64()),
        ("top5_wnid", pa.list_(pa.string(), num_best)),
        ("top5_prob", pa.list_(pa.float32(), num_best)),
    ]
    if num_classes <= MAX_CLASSES_WITH_PROBS:
        fields.append(("probs", pa.list_(pa.float32(), num_classes)))
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(about, sort_keys=True).encode()})


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
