"""One network's answers for every image of a split, as a Parquet file from which any error rate can be made again.

Columns: image_id, wnid, rank (of the true class, from 1), log_prob (of the true class), top5_wnid, top5_prob, and up to 2,000
classes probs (float32). The file's metadata say what made them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.evaluation.error_rates import ErrorCounts, counts_from_ranks, true_ranks

MAX_CLASSES_WITH_PROBS = 2000
METADATA_KEY = b"predictions"


@dataclass(frozen=True)
class Predictions:
    """The probabilities of every image of a split."""

    image_ids: list[str]
    class_indices: Tensor
    """(N,)"""
    probs: Tensor
    """(N, classes), float32"""
    wnids: list[str]
    """The class of each column of `probs`."""

    def __post_init__(self) -> None:
        expected = (len(self.image_ids), len(self.wnids))
        if tuple(self.probs.shape) != expected or len(self.class_indices) != expected[0]:
            raise ValueError(
                f"probabilities of shape {tuple(self.probs.shape)} for {expected[0]:,} images of {expected[1]:,} classes; "
                f"a dropped last batch or a repeated shard would do this"
            )

    @property
    def ranks(self) -> Tensor:
        """(N,) Of the true class, from 1."""
        return true_ranks(self.probs, self.class_indices)

    @property
    def log_probs(self) -> Tensor:
        """(N,) Natural logarithm of the true class's probability, in float64; the smallest float32 stands in for zero."""
        true = self.probs.gather(1, self.class_indices[:, None])[:, 0].double()
        return true.clamp_min(torch.finfo(torch.float32).tiny).log()

    def count_errors(self) -> ErrorCounts:
        """Count over the whole split."""
        return counts_from_ranks(self.ranks)

    def log_loss(self) -> float:
        """Mean −log p of the true class, in nats."""
        return -float(self.log_probs.mean())


def write_predictions(predictions: Predictions, metadata: dict[str, Any], path: Path) -> None:
    """Write one row an image, in the order given."""
    wnids = np.array(predictions.wnids)
    num_best = min(5, len(wnids))
    best = predictions.probs.sort(dim=1, descending=True, stable=True)
    columns = {
        "image_id": pa.array(predictions.image_ids),
        "wnid": pa.array(wnids[predictions.class_indices.numpy()]),
        "rank": pa.array(predictions.ranks.numpy().astype(np.int32)),
        "log_prob": pa.array(predictions.log_probs.numpy()),
        "top5_wnid": _fixed_lists(wnids[best.indices[:, :num_best].numpy()]),
        "top5_prob": _fixed_lists(best.values[:, :num_best].numpy()),
    }
    if len(wnids) <= MAX_CLASSES_WITH_PROBS:
        columns["probs"] = _fixed_lists(predictions.probs.numpy())
    about = json.dumps({**metadata, "wnids": predictions.wnids}, sort_keys=True)
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: about.encode()})
    pq.write_table(table, path)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a predictions file, cut short, or without the full probabilities.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no predictions file {path}; make it with python -m flows.evaluate")
    try:
        table = pq.read_table(path)
        wnids = json.loads((table.schema.metadata or {})[METADATA_KEY])["wnids"]
        probs = table["probs"].combine_chunks()
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise ValueError(f"{path} is not a whole predictions file with probabilities ({error}); predict again") from error
    index_of = {wnid: index for index, wnid in enumerate(wnids)}
    class_indices = torch.tensor([index_of[wnid] for wnid in table["wnid"].to_pylist()])
    values = torch.from_numpy(probs.flatten().to_numpy().copy()).view(len(table), len(wnids))
    return Predictions(table["image_id"].to_pylist(), class_indices, values, wnids)


def _fixed_lists(values: NDArray[Any]) -> pa.FixedSizeListArray:
    """(N, k) as N lists of k."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
