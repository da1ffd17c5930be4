"""The columns of `neighbours.parquet` and `retrieval.parquet`. docs/retrieval.md says what each column holds."""

import pyarrow as pa

from model.evaluation.schemas import PROVENANCE

_SPLITS = [
    ("dataset", pa.string()),
    ("query_split", pa.string()),
    ("database_split", pa.string()),
    ("members", pa.list_(pa.string())),
]

NEIGHBOURS = pa.schema(
    [
        *_SPLITS,
        ("code_seed", pa.int64()),
        ("query_id", pa.string()),
        ("query_wnid", pa.string()),
        ("space", pa.string()),
        ("method", pa.string()),
        ("bits", pa.int32()),
        ("rank", pa.int32()),
        ("neighbour_id", pa.string()),
        ("neighbour_wnid", pa.string()),
        ("distance", pa.float64()),
        ("num_tied", pa.int64()),
        ("pixel_rank", pa.int64()),
        ("pixel_distance", pa.float64()),
        *PROVENANCE,
    ]
)

RETRIEVAL = pa.schema(
    [
        *_SPLITS,
        ("space", pa.string()),
        ("method", pa.string()),
        ("bits", pa.int32()),
        ("code_seed", pa.int64()),
        ("num_queries", pa.int64()),
        ("num_database", pa.int64()),
        ("map", pa.float64()),
        ("map_low", pa.float64()),
        ("map_high", pa.float64()),
        ("p1", pa.float64()),
        ("p6", pa.float64()),
        ("p100", pa.float64()),
        ("recall6_at_6", pa.float64()),
        ("recall6_at_100", pa.float64()),
        ("recall6_at_1000", pa.float64()),
        ("radius2_precision", pa.float64()),
        ("radius2_empty", pa.int64()),
        ("dead_bits", pa.int32()),
        ("distinct_codes", pa.int64()),
        ("reconstruction_val", pa.float64()),
        ("pixel_rank_median", pa.float64()),
        ("pixel_top6_share", pa.float64()),
        *PROVENANCE,
    ]
)
