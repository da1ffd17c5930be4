"""Turn neighbours and places into rows of the two tables. The caller adds data set, members and provenance to each row.

`space` is `features` or `pixels`; `method` is `l2`, `cosine`, `autoencoder`, `random-projection`, `pca` or `itq`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.evaluation.schemas import Row
from model.retrieval.places import Places, Targets
from model.retrieval.scores import average_precision, mean_interval, precision, precision_within, recall
from model.retrieval.search import Neighbours
from model.retrieval.vectors import Vectors

NUM_NEIGHBOURS = 6
"""[K12 figure 4] Six training images for each query."""
RADIUS = 2
"""[14] Bits in which the codes that a look-up visits differ from the query's."""

EMPTY = "radius2_empty"
PIXEL_RANKS = "pixel_ranks"

Floats = NDArray[np.float64]
Scores = Mapping[str, NDArray[Any]]
"""Of each query (Q,), by column. Those of different queries are concatenated, not added."""


class AtPixelLevel(NamedTuple):
    """Where the feature neighbours (Q, 6) stand in the ranking by pixels."""

    ranks: NDArray[np.int64]
    """From 1; images at the same distance share the first rank."""
    distances: Floats
    """Euclidean, of values in 0…255."""


class Ranking(NamedTuple):
    """Where the rows that matter stand in the rankings of one method."""

    of_class: tuple[Targets, Places]
    """The rows of each query's class."""
    of_neighbours: tuple[Targets, Places]
    """The six exact nearest by features."""


def at_pixel_level(places: Places) -> AtPixelLevel:
    """Return ranks and distances from the places of six feature neighbours a query among the pixels."""
    shape = (-1, NUM_NEIGHBOURS)
    return AtPixelLevel((1 + places.num_nearer).reshape(shape), np.sqrt(places.distances).reshape(shape))


def neighbour_rows(
    query_ids: Sequence[str],
    query_wnids: Sequence[str | None],
    database: Vectors,
    neighbours: Neighbours,
    distances: Floats,
    num_tied: NDArray[np.int64],
    pixels: AtPixelLevel | None = None,
) -> Iterator[Row]:
    """Yield a row of `neighbours` for each query and rank; all arrays are (Q, k), `distances` as `distances.reported`."""
    ids, wnids = (column.take(pa.array(neighbours.rows.ravel())).to_pylist() for column in (database.keys, database.wnids))
    num_queries, k = neighbours.rows.shape
    for place, (query, rank) in enumerate(np.ndindex(num_queries, k)):
        yield {
            "query_id": query_ids[query],
            "query_wnid": query_wnids[query],
            "rank": rank + 1,
            "neighbour_id": ids[place],
            "neighbour_wnid": wnids[place],
            "distance": float(distances[query, rank]),
            "num_tied": int(num_tied[query, rank]),
            "pixel_rank": None if pixels is None else int(pixels.ranks[query, rank]),
            "pixel_distance": None if pixels is None else float(pixels.distances[query, rank]),
        }


def scores_of(ranking: Ranking) -> Scores:
    """Return the scores of each query, by their columns in `retrieval`."""
    return {
        "map": average_precision(*ranking.of_class),
        **{f"p{k}": precision(*ranking.of_class, k) for k in (1, 6, 100)},
        **{f"recall6_at_{k}": recall(*ranking.of_neighbours, k) for k in (6, 100, 1000)},
    }


def radius_scores(ranking: Ranking, counts: NDArray[np.int64]) -> Scores:
    """Return each query's precision within two bits, 0 without hits, and whether it has none.

    `counts` are those of `hamming.count_by_distance`.
    """
    within = counts[:, : RADIUS + 1].sum(axis=1)
    return {"radius2_precision": precision_within(*ranking.of_class, RADIUS, within), EMPTY: within == 0}


def score_columns(scores: Scores, num_database: int) -> Row:
    """Return the columns of `retrieval` that follow from the scores of all queries, most of them means.

    `scores` are those of `scores_of`, of codes also those of `radius_scores`, and `PIXEL_RANKS` (Q, 6) if they are known.
    """
    low, high = mean_interval(scores["map"])
    row: Row = {"num_queries": len(scores["map"]), "num_database": num_database, "map_low": low, "map_high": high}
    row |= {name: float(values.mean()) for name, values in scores.items() if name not in (EMPTY, PIXEL_RANKS)}
    if EMPTY in scores:
        row[EMPTY] = int(scores[EMPTY].sum())
    if PIXEL_RANKS in scores:
        ranks = scores[PIXEL_RANKS]
        row |= {"pixel_rank_median": float(np.median(ranks)), "pixel_top6_share": float((ranks <= NUM_NEIGHBOURS).mean())}
    return row
