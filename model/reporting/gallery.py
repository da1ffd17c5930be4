"""The queries of the page: one JPEG for each with all its pictures, and the numbers beside them as compact JSON.

The picture of a query, twice as wide as the others, comes first; its neighbours follow in two rows.
Called by `model.reporting.page`.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from PIL import Image

from base.errors import InputError
from model.reporting.photographs import Picture, first_synonym, square

TILE = 64
"""(ours) Pixels of a neighbour's side; the query has twice as many."""

QUALITY = 72
"""(ours) Of the JPEGs: about 20 KB for a query and 18 neighbours."""


def gallery_json(neighbours: pd.DataFrame, predictions: pd.DataFrame, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the classes, the kinds of neighbours, and a row for each query in the order of `neighbours`.

    A row has the key, the place of its class, the rank of that class among the answers, its best answers (class, probability),
    and for each kind its neighbours: (key, class, distance, rank by pixels or null).

    Raises:
        InputError: the network did not answer a query, or the query has no label.
        ValueError: the neighbours are of several networks.
    """
    if neighbours.duplicated(["query_id", "space", "method", "bits", "rank"]).any():
        raise ValueError("a query has two neighbours of one rank; expected the neighbours of one network and one seed of codes")
    answers = {str(row["image_id"]): row for row in predictions.to_dict("records")}
    wnids = sorted({*neighbours["query_wnid"], *neighbours["neighbour_wnid"], *_answered(answers, neighbours)})
    place = {wnid: number for number, wnid in enumerate(wnids)}
    kinds = list(dict.fromkeys(_kind(row) for row in neighbours.to_dict("records")))
    rows = []
    for query, group in neighbours.groupby("query_id", sort=False):
        if query not in answers or pd.isna(answers[str(query)]["rank"]):
            raise InputError(f"no labelled prediction for the query {query}; choose queries of the split that was scored")
        records = group.to_dict("records")
        answer, lists = answers[str(query)], [sorted(_of(records, kind), key=lambda row: row["rank"]) for kind in kinds]
        best = [[place[wnid], round(float(p), 3)] for wnid, p in zip(answer["top5_wnid"], answer["top5_prob"], strict=True)]
        shown = [[_neighbour(row, place) for row in rows_of_kind] for rows_of_kind in lists]
        rows.append([str(query), place[records[0]["query_wnid"]], int(answer["rank"]), best, shown])
    classes = [[wnid, first_synonym(names.get(wnid, wnid))] for wnid in wnids]
    most = int(neighbours.groupby("query_id").size().max())
    return {"tile": TILE, "columns": -(-most // 2), "classes": classes, "kinds": kinds, "rows": rows}


def strip_of(row: Sequence[Any], columns: int, query_picture: Picture, database_picture: Picture) -> bytes:
    """Return the JPEG of one row of `gallery_json`: the query, then all neighbours in two rows of `columns`."""
    sheet = Image.new("RGB", ((columns + 2) * TILE, 2 * TILE), "white")
    sheet.paste(square(query_picture(row[0]), 2 * TILE), (0, 0))
    for number, neighbour in enumerate(one for kind in row[4] for one in kind):
        down, along = divmod(number, columns)
        sheet.paste(square(database_picture(neighbour[0]), TILE), ((along + 2) * TILE, down * TILE))
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=QUALITY, optimize=True)
    return data.getvalue()


def _answered(answers: Mapping[str, Any], neighbours: pd.DataFrame) -> set[str]:
    return {wnid for query in set(neighbours["query_id"]) & answers.keys() for wnid in answers[query]["top5_wnid"]}


def _kind(row: Mapping[Any, Any]) -> tuple[str, str, int | None]:
    return str(row["space"]), str(row["method"]), None if pd.isna(row["bits"]) else int(row["bits"])


def _of(rows: Sequence[Mapping[Any, Any]], kind: tuple[str, str, int | None]) -> list[Mapping[Any, Any]]:
    return [row for row in rows if _kind(row) == kind]


def _neighbour(row: Mapping[Any, Any], place: Mapping[str, int]) -> list[Any]:
    rank = None if pd.isna(row["pixel_rank"]) else int(row["pixel_rank"])
    return [str(row["neighbour_id"]), place[row["neighbour_wnid"]], float(f"{row['distance']:.3g}"), rank]
