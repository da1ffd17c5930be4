"""The columns of the tables, and how rows of older versions are read. docs/tables.md says what each column holds."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from base.errors import InputError

SCHEMA_VERSION = 3
"""Counts up when a column is added. No column is ever removed, and none changes its type."""

Row = dict[str, Any]

PROVENANCE = [
    ("preset", pa.string()),  # since version 3; versions 1 and 2 wrote it into `recipe`
    ("recipe", pa.string()),
    ("seed", pa.int64()),  # since version 3
    ("labels", pa.string()),  # since version 3
    ("classes", pa.string()),  # since version 3
    ("shards", pa.string()),
    ("config", pa.string()),
    ("code_version", pa.string()),
    ("weights_code_versions", pa.list_(pa.string())),  # since version 3
    ("run_id", pa.string()),
    ("created_at", pa.timestamp("us", tz="UTC")),
    ("schema_version", pa.int16()),
]
_MEMBERS = [("members", pa.list_(pa.string())), ("member_weights", pa.list_(pa.float64()))]

ERROR_RATES = pa.schema(
    [
        ("table", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("source", pa.string()),
        ("views", pa.int8()),
        *_MEMBERS,
        ("selected_on", pa.string()),
        ("num_images", pa.int64()),
        ("top1_wrong", pa.int64()),
        ("top5_wrong", pa.int64()),
        ("top1_error", pa.float64()),
        ("top5_error", pa.float64()),
        ("top1_low", pa.float64()),
        ("top1_high", pa.float64()),
        ("top5_low", pa.float64()),
        ("top5_high", pa.float64()),
        ("log_loss", pa.float64()),
        *PROVENANCE,
        ("top1_cost", pa.float64()),  # since version 2
        ("top5_cost", pa.float64()),  # since version 2
    ]
)

COMPARISONS = pa.schema(
    [
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("views", pa.int8()),
        ("rank", pa.int8()),
        ("first", pa.string()),
        ("second", pa.string()),
        ("first_members", pa.list_(pa.string())),
        ("second_members", pa.list_(pa.string())),
        ("num_images", pa.int64()),
        ("first_wrong", pa.int64()),
        ("second_wrong", pa.int64()),
        ("only_first_wrong", pa.int64()),
        ("only_second_wrong", pa.int64()),
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("p_value", pa.float64()),
        ("num_resamples", pa.int32()),
        *PROVENANCE,
    ]
)

PER_CLASS = pa.schema(
    [
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("views", pa.int8()),
        *_MEMBERS,
        ("wnid", pa.string()),
        ("num_images", pa.int64()),
        ("top1_wrong", pa.int64()),
        ("top5_wrong", pa.int64()),
        ("top1_error", pa.float64()),
        ("top5_error", pa.float64()),
        ("confused_wnids", pa.list_(pa.string())),
        ("confused_images", pa.list_(pa.int64())),
        *PROVENANCE,
    ]
)

GAPS = pa.schema(
    [
        ("table", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("source", pa.string()),
        ("views", pa.int8()),
        ("members", pa.list_(pa.string())),
        ("rank", pa.int8()),
        ("val_error", pa.float64()),
        ("test_error", pa.float64()),
        ("gap", pa.float64()),
        ("gap_low", pa.float64()),
        ("gap_high", pa.float64()),
        ("within_published", pa.bool_()),
        ("preset", pa.string()),  # since version 3
        ("recipe", pa.string()),  # since version 3
        ("seed", pa.int64()),  # since version 3
        ("config", pa.string()),  # since version 3
        ("schema_version", pa.int16()),
    ]
)

SHIFTS = pa.schema(
    [
        ("table", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("val_dataset", pa.string()),
        ("val_split", pa.string()),
        ("views", pa.int8()),
        *_MEMBERS,
        ("rank", pa.int8()),
        *[
            (f"{prefix}{name}", kind)
            for prefix in ("val_", "")
            for name, kind in (
                ("num_images", pa.int64()),
                ("wrong", pa.int64()),
                *((name, pa.float64()) for name in ("error", "low", "high")),
            )
        ],
        ("difference", pa.float64()),
        ("difference_low", pa.float64()),
        ("difference_high", pa.float64()),
        ("val_shards", pa.string()),
        *PROVENANCE,
    ]
)


def append(known: pa.Table | None, rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Return the rows so far, of any version, and the new ones below them.

    Raises:
        InputError: the known rows were written by a newer version.
    """
    new = pa.Table.from_pylist(list(rows), schema=schema)
    return new if known is None else pa.concat_tables([upgrade(known, schema), new])


def upgrade(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows of any version with the columns of this one; a column that was added since is null in them.

    Up to version 2, the name of the preset was in the column `recipe`. `schema_version` keeps the version that wrote the row.

    Raises:
        InputError: a newer version wrote them.
    """
    _check_version(table, schema)
    if "preset" not in table.schema.names:
        table = table.rename_columns({"recipe": "preset"})
    known = table.schema.names
    columns = [table[field.name] if field.name in known else pa.nulls(len(table), field.type) for field in schema]
    return pa.table(columns, schema=schema)


def _check_version(table: pa.Table, schema: pa.Schema) -> None:
    newest = max((version for version in table["schema_version"].to_pylist() if version is not None), default=0)
    unknown = [name for name in table.schema.names if name not in schema.names]
    if newest > SCHEMA_VERSION or unknown:
        raise InputError(
            f"the tables hold rows of schema version {newest} (unknown columns: {', '.join(unknown) or 'none'}), "
            f"this program writes version {SCHEMA_VERSION}; use a newer one, or another workspace"
        )
