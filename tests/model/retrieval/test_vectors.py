"""Vectors by shard: what is written is read back, in any blocks."""

import numpy as np
import pandas as pd
import pytest

from base.errors import InputError
from model.retrieval import vectors as module
from model.retrieval.vectors import open_vectors, write_vectors


def random(num, dim=5, dtype="float32"):
    return (np.random.default_rng(0).random((num, dim)) * 200).astype(dtype)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several record batches in a part."""
    monkeypatch.setattr(module, "BATCH_BYTES", 60)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_vectors_keys_and_labels_are_read_back(store, dtype):
    values = random(23, dtype=dtype)
    vectors = store(values, [10, 1, 12], wnids=[f"n{n % 3}" for n in range(23)], about={"layer": "fc7"})
    assert vectors.dtype == dtype
    assert np.array_equal(vectors.read(), values)
    assert vectors.keys.to_pylist() == [f"key-{n:05d}" for n in range(23)]
    assert vectors.wnids.to_pylist() == [f"n{n % 3}" for n in range(23)]
    assert vectors.about == {"layer": "fc7"}


@pytest.mark.parametrize("rows", [range(23), range(3, 20), range(10, 11), range(22, 23)])
@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_any_rows_are_read_in_blocks_of_any_size(store, rows, size):
    values = random(23)
    found = [(block.start, block.stop, block.values.copy()) for block in store(values, [10, 1, 12]).blocks(rows, size)]
    assert np.array_equal(np.concatenate([piece for _, _, piece in found]), values[rows.start : rows.stop])
    assert all(np.array_equal(piece, values[start:stop]) for start, stop, piece in found)
    assert all(stop - start == size for start, stop, _ in found[:-1])


def test_an_empty_range_has_no_block(store):
    assert list(store(random(5)).blocks(range(3, 3))) == []


def test_single_rows_are_read_in_any_order(store):
    values, rows = random(23), np.array([22, 0, 10, 9, 11, 0])
    assert np.array_equal(store(values, [10, 1, 12]).take(rows), values[rows])


def test_the_bytes_depend_on_the_rows_only(tmp_path):
    values, keys = random(23), [f"k{n}" for n in range(23)]
    write_vectors(tmp_path / "a", keys, None, values, {"b": 1, "a": 2})
    pieces = np.concatenate([values[:7], values[7:]])
    write_vectors(tmp_path / "b", keys, None, np.asfortranarray(pieces), {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_pandas_opens_a_part(store):
    values = random(4)
    frame = pd.read_feather(store(values, wnids=["n1"] * 4).parts[0].path)
    assert np.array_equal(np.stack(list(frame["vector"])), values)
    assert list(frame["wnid"]) == ["n1"] * 4


def test_keys_are_ordered_by_their_bytes(store):
    keys = ["b", "a", "Z", "ä", "aa"]
    assert store(random(5), [2, 3], keys=keys).key_order.tolist() == [sorted(keys).index(key) for key in keys]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_an_error(tmp_path, bad):
    values = random(3)
    values[1, 2] = bad
    with pytest.raises(InputError, match=r"the vector of b has values that are not finite"):
        write_vectors(tmp_path / "a", ["a", "b", "c"], None, values, {})
    assert list(tmp_path.iterdir()) == []


def test_a_vector_without_a_key_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="do not fit 2 images"):
        write_vectors(tmp_path / "a", ["a", "b"], None, random(3), {})


def test_parts_that_do_not_fit_are_errors(store, tmp_path):
    whole = store(random(5)).parts[0].path
    with pytest.raises(InputError, match="no vectors to open"):
        open_vectors([])
    with pytest.raises(InputError, match="expected the file of a finished shard"):
        open_vectors([tmp_path / "missing"])
    with pytest.raises(InputError, match="expected the parts of one split"):
        open_vectors([whole, store(random(5, dim=6)).parts[0].path])
    with pytest.raises(InputError, match="expected each image once"):
        open_vectors([whole, whole])
    for content in (whole.read_bytes()[:-20], b"", b"ARROW1"):
        (tmp_path / "cut").write_bytes(content)
        with pytest.raises(InputError, match="not a whole file of vectors"):
            open_vectors([tmp_path / "cut"])
