"""Rows of the tables, with exactly the documented columns."""

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.schemas import PROVENANCE
from model.retrieval.distances import reported
from model.retrieval.hamming import count_by_distance, nearest_codes, pack, place_codes
from model.retrieval.places import place, same_class, targets_of
from model.retrieval.rows import Ranking, at_pixel_level, neighbour_rows, radius_scores, score_columns, scores_of
from model.retrieval.schemas import NEIGHBOURS, RETRIEVAL
from model.retrieval.search import nearest

OF_NEIGHBOURS = """dataset query_split database_split members code_seed query_id query_wnid space method bits rank neighbour_id
neighbour_wnid distance num_tied pixel_rank pixel_distance"""
OF_RETRIEVAL = """dataset query_split database_split members space method bits code_seed num_queries num_database map map_low
map_high p1 p6 p100 recall6_at_6 recall6_at_100 recall6_at_1000 radius2_precision radius2_empty dead_bits distinct_codes
reconstruction_val pixel_rank_median pixel_top6_share"""
WNIDS = [f"n{number % 4}" for number in range(200)]


@pytest.fixture
def features():
    """Queries and a database of four classes."""
    generator = np.random.default_rng(0)
    centres = generator.random((4, 10)) * 3
    return [(centres[np.arange(num) % 4] + generator.random((num, 10))).astype(np.float32) for num in (20, 200)]


@pytest.fixture
def pixels():
    return [np.random.default_rng(1).integers(0, 256, (num, 12), dtype=np.uint8) for num in (20, 200)]


@pytest.mark.parametrize(("schema", "names"), [(NEIGHBOURS, OF_NEIGHBOURS), (RETRIEVAL, OF_RETRIEVAL)])
def test_the_tables_have_the_documented_columns_and_end_with_the_provenance(schema, names):
    assert schema.names == names.split() + [name for name, _ in PROVENANCE]


def test_a_row_tells_each_neighbour_and_its_place_by_pixels(store, features, pixels):
    database = store(features[1], wnids=WNIDS)
    found = nearest(features[0], database, 6)
    at_pixels = at_pixel_level(place(pixels[0], store(pixels[1]), targets_of(found.rows)))
    tied = place(features[0], database, targets_of(found.rows)).num_tied.reshape(20, 6)
    ids = [f"query-{number}" for number in range(20)]
    rows = list(neighbour_rows(ids, WNIDS[:20], database, found, reported(found.distances, "l2"), tied, at_pixels))
    assert len(rows) == 120
    row, by_pixels = rows[6 * 7 + 2], np.square(pixels[1].astype(int) - pixels[0][7]).sum(axis=1)
    neighbour = int(found.rows[7, 2])
    assert (row["query_id"], row["query_wnid"]) == ("query-7", "n3")
    assert (row["rank"], row["neighbour_id"], row["neighbour_wnid"]) == (3, f"key-{neighbour:05d}", WNIDS[neighbour])
    assert row["distance"] == pytest.approx(np.linalg.norm(features[0][7] - features[1][neighbour]), rel=1e-5)
    assert row["pixel_rank"] == 1 + (by_pixels < by_pixels[neighbour]).sum()
    assert row["pixel_distance"] == np.sqrt(by_pixels[neighbour])
    assert row["num_tied"] == 1
    pa.Table.from_pylist(rows, schema=NEIGHBOURS)


def test_without_pixels_their_columns_are_null(store, features):
    database = store(features[1])
    found = nearest(features[0], database, 2)
    rows = list(neighbour_rows(["q"] * 20, [None] * 20, database, found, found.distances, np.ones((20, 2), int)))
    assert {(row["pixel_rank"], row["pixel_distance"], row["query_wnid"], row["neighbour_wnid"]) for row in rows} == {
        (None,) * 4
    }


def test_scores_of_features_and_codes_fill_a_row(store, features, pixels):
    database = store(features[1], wnids=WNIDS)
    same, true = same_class(WNIDS[:20], database.wnids.to_pylist()), targets_of(nearest(features[0], database, 6).rows)
    by_features = Ranking((same, place(features[0], database, same)), (true, place(features[0], database, true)))
    row = score_columns(scores_of(by_features), len(database))
    assert (row["num_queries"], row["num_database"]) == (20, 200)
    assert row["map"] == row["p1"] == row["p6"] == row["recall6_at_6"] == row["recall6_at_1000"] == 1
    assert row["p100"] == 0.5  # each class has fifty
    codes = [pack(values > 2) for values in features]
    by_codes = Ranking((same, place_codes(*codes, same)), (true, place_codes(*codes, true)))
    counts = count_by_distance(*codes)
    ranks = at_pixel_level(place(pixels[0], store(pixels[1]), true)).ranks
    row = score_columns({**scores_of(by_codes), **radius_scores(by_codes, counts), "pixel_ranks": ranks}, 200)
    assert row["map_low"] <= row["map"] <= row["map_high"] <= 1
    assert row["recall6_at_6"] <= row["recall6_at_100"] <= row["recall6_at_1000"] == 1
    differing = np.array([np.bitwise_count(codes[1] ^ query).sum(axis=1) for query in codes[0]])
    right = np.array(WNIDS)[None] == np.array(WNIDS[:20])[:, None]
    shares = [(one[near].mean() if near.any() else 0) for one, near in zip(right, differing <= 2, strict=True)]
    assert row["radius2_precision"] == pytest.approx(np.mean(shares))
    assert row["radius2_empty"] == sum(not near.any() for near in differing <= 2)
    found = nearest_codes(*codes, database.key_order, 6)
    assert (found.distances >= 0).all()
    assert 1 <= row["pixel_rank_median"] <= 200
    assert 0 <= row["pixel_top6_share"] <= 1
    pa.Table.from_pylist([row], schema=RETRIEVAL)
