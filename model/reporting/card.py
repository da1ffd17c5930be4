"""Measured rows of `error_rates` to a model card in Hugging Face's form: Markdown below a YAML header with a `model-index`.

Called by `tasks.export` for an exported network. Reads and writes no file.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from model.evaluation.rendering import as_markdown
from model.evaluation.schemas import Row

TASK = {"type": "image-classification", "name": "Image Classification"}
EVALUATION = ("dataset", "split", "views", "labels", "classes")
UNMEASURED = "No error rate of these weights was measured."


def model_card(name: str, rows: Sequence[Row], sections: Mapping[str, str]) -> str:
    """Return the card of a network or an ensemble.

    `rows` are its rows of `error_rates`; rows without labels have no error and are left out. The body is the first of the
    `sections` (Markdown by heading), the table of errors, and the other sections. [huggingface.co/docs/hub/model-cards]
    """
    measured = [row for row in rows if row["top1_error"] is not None]
    parts = [f"## {heading}\n\n{text.strip()}" for heading, text in sections.items()]
    parts.insert(1, f"## Error rates\n\n{_tables(measured) or UNMEASURED}")
    header = yaml.safe_dump(_header(name, measured), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n\n# {name}\n\n" + "\n\n".join(parts) + "\n"


def card_rows(rates: pa.Table, members: Collection[str]) -> list[Row]:
    """Return the newest measured row of each evaluation of exactly these members, from the rows of `error_rates`."""
    rows = [row for row in rates.to_pylist() if row["source"] == "measured" and set(row["members"]) == set(members)]
    return list({tuple(row[name] for name in EVALUATION): row for row in rows}.values())


def _tables(rows: Sequence[Row]) -> str:
    """A table for each number of views, the most first."""
    views = sorted({row["views"] for row in rows}, reverse=True)
    tables = [as_markdown([row for row in rows if row["views"] == number]) for number in views]
    return "\n\n".join(f"{_views(number)}:\n\n{table}" for number, table in zip(views, tables, strict=True))


def _views(number: int) -> str:
    return f"{number} view{'s' * (number != 1)}"


def _header(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    header: dict[str, Any] = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "alexnet"],
    }
    if rows:  # the hub refuses an empty list of results
        header["model-index"] = [{"name": name, "results": [_result(row) for row in rows]}]
    return header


def _result(row: Row) -> dict[str, Any]:
    """One evaluation. Counts and intervals are beside each rate, since a rate alone does not say how sure it is."""
    detail = {name: row[name] for name in ("labels", "classes") if row[name] is not None}
    return {
        "task": dict(TASK),  # a copy: YAML would write a reference to the first
        "dataset": {
            "name": row["dataset"],
            "type": row["dataset"],
            "split": row["split"],
            **({"args": detail} if detail else {}),
        },
        "metrics": [_metric(row, top) for top in (1, 5)],
    }


def _metric(row: Row, top: int) -> dict[str, Any]:
    return {
        "name": f"Top-{top} error, {_views(row['views'])}",
        "type": f"top{top}_error",
        "value": row[f"top{top}_error"],
        "args": {
            "wrong": row[f"top{top}_wrong"],
            "images": row["num_images"],
            "low": row[f"top{top}_low"],
            "high": row[f"top{top}_high"],
            "views": row["views"],
        },
    }
