"""Search by codes against counting the bits of every pair."""

from math import comb

import faiss
import numpy as np
import pytest

from base.errors import InputError
from model.retrieval import hamming as module
from model.retrieval.hamming import HashTable, count_by_distance, masks, nearest_codes, pack, place_codes, unpack, write_index
from model.retrieval.places import Targets
from model.retrieval.search import merge


def random_bits(num, num_bits, seed=0, ones=0.5):
    return np.random.default_rng(seed).random((num, num_bits)) < ones


def keys(num):
    return np.random.default_rng(1).permutation(num)


def compare_all(queries, database):
    return (queries[:, None] != database[None]).sum(axis=2)


CASES = [
    (random_bits(20, 28, 1), random_bits(500, 28)),
    (random_bits(20, 5, 1), random_bits(500, 5)),
    (random_bits(20, 64, 1), random_bits(500, 64)),
    (random_bits(20, 256, 1), random_bits(500, 256)),
    (random_bits(20, 100, 1, 0.1), random_bits(300, 100, 0, 0.1)),
    (np.zeros((3, 28), bool), np.zeros((100, 28), bool)),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].shape[1]}-bits-{len(case[1])}")
def case(request):
    return request.param


def test_bits_are_packed_in_order_and_filled_up_with_zeros():
    bits = random_bits(7, 28)
    codes = pack(bits)
    assert codes.shape == (7, 4)
    assert np.array_equal(unpack(codes, 28), bits)
    assert not (codes[:, 3] & 0xF0).any()
    assert pack(np.array([[True] + 8 * [False]])).tolist() == [[1, 0]]


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_neighbours_are_those_of_brute_force(case, block, monkeypatch):
    monkeypatch.setattr(module, "CODES_AT_ONCE", block)
    monkeypatch.setattr(module, "RESULTS_AT_ONCE", 300)
    queries, database = case
    order, distances = keys(len(database)), compare_all(*case)
    found = nearest_codes(pack(queries), pack(database), order, 6)
    expected = np.array([np.lexsort((order, row))[:6] for row in distances])
    assert np.array_equal(found.rows, expected)
    assert np.array_equal(found.distances, np.take_along_axis(distances, expected, axis=1))


def test_slices_of_the_database_merge_exactly(case, store):
    queries, database = case
    vectors = store(pack(database))
    whole = nearest_codes(pack(queries), pack(database), vectors.key_order, 6)
    slices = [range(3), range(3, 3), range(3, 60), range(60, len(database))]
    parts = [nearest_codes(pack(queries), pack(database), vectors.key_order, 6, rows) for rows in slices]
    for found, expected in zip(merge(parts, vectors, 6), whole, strict=True):
        assert found.tobytes() == expected.tobytes()


def test_places_are_those_of_brute_force(case, monkeypatch):
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 37)
    queries, database = case
    distances = compare_all(*case)
    targets = Targets(
        np.repeat(np.arange(len(queries)), 5),
        np.random.default_rng(2).integers(0, len(database), 5 * len(queries)),
        len(queries),
    )
    places = place_codes(pack(queries), pack(database), targets)
    expected = distances[targets.queries, targets.rows]
    assert np.array_equal(places.distances, expected)
    assert np.array_equal(places.num_nearer, (distances[targets.queries] < expected[:, None]).sum(axis=1))
    assert np.array_equal(places.num_tied, (distances[targets.queries] == expected[:, None]).sum(axis=1))


def test_all_rows_are_counted_by_distance(case):
    queries, database = case
    counts = count_by_distance(pack(queries), pack(database))
    assert (counts.sum(axis=1) == len(database)).all()
    for distance in (0, 2, 5):
        assert np.array_equal(counts[:, distance], (compare_all(*case) == distance).sum(axis=1))


@pytest.mark.parametrize("num_bits", [5, 28, 64])
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_a_table_finds_all_rows_within_a_radius(num_bits, radius):
    base = random_bits(10, num_bits)
    database = np.repeat(base, 30, axis=0) ^ random_bits(300, num_bits, 2, 1.5 / num_bits)
    queries = base ^ random_bits(10, num_bits, 3, 1 / num_bits)
    order, distances = keys(300), compare_all(queries, database)
    table = HashTable(pack(database), num_bits, order)
    for query, row in zip(pack(queries), distances, strict=True):
        rows, bits = table.look_up(query, radius)
        expected = np.lexsort((order, row))[: (row <= radius).sum()]
        assert rows.tolist() == expected.tolist()
        assert bits.tolist() == row[expected].tolist()


def test_a_look_up_visits_all_addresses_within_two_bits_of_28():
    assert sum(len(masks(28, flipped)) for flipped in range(3)) == 1 + 28 + comb(28, 2)


def test_a_look_up_may_find_nothing():
    table = HashTable(pack(np.ones((3, 28), bool)), 28, keys(3))
    rows, bits = table.look_up(pack(np.zeros((1, 28), bool))[0])
    assert rows.tolist() == bits.tolist() == []


def test_faiss_opens_an_index_of_codes(tmp_path):
    queries, database = (pack(bits) for bits in CASES[0])
    write_index(database, tmp_path / "codes.faiss")
    index = faiss.read_index_binary(str(tmp_path / "codes.faiss"))
    assert (index.d, index.ntotal) == (32, 500)
    assert np.array_equal(index.search(queries, 6)[0], nearest_codes(queries, database, keys(500), 6).distances)


def test_what_cannot_be_searched_is_an_error():
    codes = pack(random_bits(5, 28))
    with pytest.raises(InputError, match="codes of 4 bytes and 1 neighbours do not fit a database of 5 codes of 3 bytes"):
        nearest_codes(codes, codes[:, :3], keys(5), 1)
    with pytest.raises(InputError, match="6 neighbours do not fit"):
        nearest_codes(codes, codes, keys(5), 6)
    with pytest.raises(InputError, match="codes of 256 bits are too long to be addresses"):
        HashTable(pack(random_bits(5, 256)), 256, keys(5))
