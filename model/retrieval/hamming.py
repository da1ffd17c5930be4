"""Search by binary codes: neighbours, places and look-ups by the number of bits that differ. All of it is exact.

Codes are packed into bytes, eight bits each, the first one lowest; a number of bits that is not a multiple of 8 is filled up
with zeros, which change no distance. Faiss's binary indexes read them as they are. [14] is Krizhevsky & Hinton, ESANN 2011.
"""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from base.errors import InputError
from base.files import atomic_write
from model.retrieval.places import Places, Targets
from model.retrieval.search import NOTHING, Found, Neighbours, keep_nearest

Codes = NDArray[np.uint8]
Counts = NDArray[np.int64]

CODES_AT_ONCE = 2**18
"""(ours) Codes that are searched at once: of 256 bits, 8 MB."""
RESULTS_AT_ONCE = 2**24
"""(ours) The most that a search may find at once, if all codes are the same: 200 MB."""
PAIRS_AT_ONCE = 2**16
"""(ours) Distances that are computed at once: they fit into the cache of a core."""
MAX_ADDRESS_BITS = 64
"""Longer codes are no addresses: within two bits of one of 256 there are 32,897."""


def pack(bits: NDArray[np.bool_]) -> Codes:
    """Return bits (N, B) as bytes (N, ⌈B ÷ 8⌉), filled up with zeros."""
    return np.packbits(bits, axis=1, bitorder="little")


def unpack(codes: Codes, num_bits: int) -> NDArray[np.bool_]:
    """Return the bits (N, B) of packed codes."""
    return np.unpackbits(codes, axis=1, count=num_bits, bitorder="little").astype(bool)


def write_index(codes: Codes, path: Path) -> None:
    """Write codes as an index that `faiss.read_index_binary` opens; its numbers are those of the rows."""
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(np.ascontiguousarray(codes))
    with atomic_write(path) as file:
        file.write(faiss.serialize_index_binary(index).tobytes())


def nearest_codes(queries: Codes, database: Codes, key_order: Counts, k: int, rows: range | None = None) -> Neighbours:
    """Return the k nearest of all rows, or of those in `rows`, sorted by (bits that differ, key); see `search.merge`.

    Raises:
        InputError: the codes have different numbers of bytes, or the database has fewer than k.
    """
    if queries.shape[1] != database.shape[1] or not 0 < k <= len(database):
        raise InputError(
            f"codes of {queries.shape[1]} bytes and {k:,} neighbours do not fit a database of {len(database):,} codes of "
            f"{database.shape[1]} bytes"
        )
    queries, found, rows = np.ascontiguousarray(queries), NOTHING, range(len(database)) if rows is None else rows
    for start in range(rows.start, rows.stop, CODES_AT_ONCE):
        block = np.ascontiguousarray(database[start : min(start + CODES_AT_ONCE, rows.stop)])
        if len(found.rows) == k * len(queries):
            limits = found.distances[k - 1 :: k].astype(np.int64)
        else:
            limits = np.asarray(faiss.knn_hamming(queries, block, min(k, len(block)))[0][:, -1], np.int64)
        for new in _within(queries, block, limits):
            new = Found(new.queries, new.rows + start, new.distances)
            found = keep_nearest((found, new), k, key_order)
    return Neighbours(found.rows.reshape(len(queries), -1), found.distances.reshape(len(queries), -1))


def place_codes(queries: Codes, database: Codes, targets: Targets) -> Places:
    """Return the places of rows in the rankings of the queries."""
    distances = np.empty(len(targets.rows))
    for start in range(0, len(targets.rows), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        differing = np.bitwise_xor(queries[targets.queries[some]], database[targets.rows[some]])
        distances[some] = np.bitwise_count(differing).sum(axis=1, dtype=np.int64)
    counts = count_by_distance(queries, database)
    here = counts[targets.queries, distances.astype(np.int64)]
    return Places(distances, counts.cumsum(axis=1)[targets.queries, distances.astype(np.int64)] - here, here)


def count_by_distance(queries: Codes, database: Codes) -> Counts:
    """Return how many rows differ from each query in 0, 1, 2, … bits: (Q, bits + 1)."""
    counts = np.zeros((len(queries), 8 * database.shape[1] + 1), np.int64)
    words = [_words(codes) for codes in (queries, database)]
    for start in range(0, len(database), PAIRS_AT_ONCE):
        block = words[1][:, start : start + PAIRS_AT_ONCE]
        for number, query in enumerate(words[0].T):
            distances = np.bitwise_count(np.bitwise_xor(block, query[:, None])).sum(axis=0, dtype=np.uint16)
            counts[number] += np.bincount(distances, minlength=counts.shape[1])
    return counts


class HashTable:
    """Rows by their code, which is their address: semantic hashing as [14] meant it, for codes of 28 bits.

    The addresses in use are sorted, which takes less memory than a table of all 2^28.
    """

    def __init__(self, codes: Codes, num_bits: int, key_order: Counts) -> None:
        """Sort the rows by address and key.

        Raises:
            InputError: the codes are too long to be addresses.
        """
        if num_bits > MAX_ADDRESS_BITS:
            raise InputError(
                f"codes of {num_bits} bits are too long to be addresses; expected at most {MAX_ADDRESS_BITS}, as 28"
            )
        addresses = _words(codes)[0]
        self.num_bits, self.key_order = num_bits, key_order
        self.rows = np.lexsort((key_order, addresses))
        self.addresses, starts = np.unique(addresses[self.rows], return_index=True)
        self.ends = np.append(starts, len(codes))

    def look_up(self, code: Codes, radius: int = 2) -> tuple[Counts, Counts]:
        """Return the rows whose code differs from this one (bytes,) in at most `radius` bits, by (bits, key), and the bits."""
        found: list[Counts] = []
        for flipped in range(radius + 1):
            wanted = _words(code[None])[0] ^ masks(self.num_bits, flipped)
            places = np.searchsorted(self.addresses, wanted)
            places = places[self.addresses[np.minimum(places, len(self.addresses) - 1)] == wanted]
            rows = np.concatenate([self.rows[:0], *(self.rows[slice(*self.ends[place : place + 2])] for place in places)])
            found.append(rows[np.argsort(self.key_order[rows])])
        return np.concatenate(found), np.repeat(np.arange(radius + 1), [len(rows) for rows in found])


def masks(num_bits: int, flipped: int) -> NDArray[np.uint64]:
    """Return all addresses with this number of ones: (number of ways to choose them,)."""
    return np.array([sum(1 << bit for bit in bits) for bits in combinations(range(num_bits), flipped)], np.uint64)


def _within(queries: Codes, block: Codes, limits: Counts) -> Iterator[Found]:
    """Yield all rows that differ from each query in at most its limit of bits: of those at the limit, Faiss keeps any k."""
    index = faiss.IndexBinaryFlat(8 * block.shape[1])
    index.add(block)
    step = max(1, RESULTS_AT_ONCE // len(block))
    for limit in np.unique(limits):
        same = np.flatnonzero(limits == limit)
        for some in (same[start : start + step] for start in range(0, len(same), step)):
            ends, distances, rows = index.range_search(queries[some], int(limit) + 1)  # below, not up to
            counts: Counts = np.diff(ends).astype(np.int64)
            yield Found(np.repeat(some, counts), rows.astype(np.int64), distances.astype(np.float64))


def _words(codes: Codes) -> NDArray[np.uint64]:
    """Return the bytes of each code as words: (⌈bytes ÷ 8⌉, N)."""
    filled = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    filled[:, : codes.shape[1]] = codes
    return np.ascontiguousarray(filled.view("<u8").T)
