"""The columns of `retrainings.parquet` and `champions.parquet`. docs/retraining.md says what each column holds."""

import pyarrow as pa

SCHEMA_VERSION = 1
"""Counts up when a column is added. No column is ever removed, and none changes its type."""

_TIME = pa.timestamp("us", tz="UTC")

RETRAININGS = pa.schema(
    [
        ("retraining_id", pa.string()),
        ("name", pa.string()),
        ("scheduled_for", _TIME),
        ("started_at", _TIME),
        ("finished_at", _TIME),
        ("trigger", pa.string()),
        ("decision", pa.string()),
        ("reason", pa.string()),
        ("data_version", pa.string()),
        ("eval_set", pa.string()),
        ("num_train", pa.int64()),
        ("images_added", pa.int64()),
        ("images_removed", pa.int64()),
        ("images_relabelled", pa.int64()),
        ("images_bad", pa.int64()),
        ("classes_added", pa.list_(pa.string())),
        ("classes_removed", pa.list_(pa.string())),
        ("overlap", pa.int64()),
        ("champion", pa.string()),
        ("challenger", pa.string()),
        ("start", pa.string()),
        ("generation", pa.int64()),
        ("seed", pa.int64()),
        ("num_eval", pa.int64()),
        ("champion_wrong", pa.int64()),
        ("challenger_wrong", pa.int64()),
        ("only_champion_wrong", pa.int64()),
        ("only_challenger_wrong", pa.int64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("p_value", pa.float64()),
        ("rule", pa.string()),
        ("margin", pa.float64()),
        ("looks", pa.int64()),
        ("recipe", pa.string()),
        ("config", pa.string()),
        ("key", pa.string()),
        ("code", pa.string()),
        ("siblings", pa.list_(pa.string())),
        ("siblings_wrong", pa.list_(pa.int64())),
        ("code_version", pa.string()),
        ("run_id", pa.string()),
        ("schema_version", pa.int16()),
    ]
)

CHAMPIONS = pa.schema(
    [
        ("name", pa.string()),
        ("generation", pa.int64()),
        ("weights", pa.string()),
        ("wnids", pa.list_(pa.string())),
        ("data_version", pa.string()),
        ("eval_set", pa.string()),
        ("num_images", pa.int64()),
        ("top1_wrong", pa.int64()),
        ("since", _TIME),
        ("cause", pa.string()),
        ("reason", pa.string()),
        ("key", pa.string()),
        ("vetoed", pa.string()),
        ("siblings", pa.list_(pa.string())),
        ("retraining_id", pa.string()),
        ("run_id", pa.string()),
        ("schema_version", pa.int16()),
    ]
)
