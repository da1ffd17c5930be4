"""Codes of any encoder: the same bits for any threads and shards."""

import numpy as np
import pytest
import torch

from base.errors import InputError
from model.retrieval import encoding as module
from model.retrieval.autoencoder import AutoEncoder, CodeConfig
from model.retrieval.baselines import fit_projection
from model.retrieval.encoding import distinct_codes, encode, encode_part, num_bits_of, write_codes
from model.retrieval.hamming import unpack
from model.retrieval.vectors import open_vectors


@pytest.fixture(autouse=True)
def small_passes(monkeypatch):
    monkeypatch.setattr(module, "ROWS_PER_PASS", 16)


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal((100, 40)).astype(np.float32)


def encoders(store, values):
    torch.manual_seed(0)
    yield AutoEncoder(40, CodeConfig(bits=28, hidden=(20,))).eval()
    yield from (fit_projection(method, store(values), 28) for method in ("random-projection", "pca", "itq"))


def test_neither_threads_nor_other_rows_change_a_bit(store, values):
    for encoder in encoders(store, values):
        whole = encode(encoder, values)
        assert np.array_equal(encode(encoder, values, at_once=3), whole)
        assert np.array_equal(encode(encoder, values[:7]), whole[:7])
        assert np.array_equal(unpack(whole, 28), encoder.bits(torch.from_numpy(values)).numpy())


def test_codes_are_written_with_keys_labels_and_padding(store, values, tmp_path):
    encoder = next(encoders(store, values))
    vectors = store(values, [60, 40], wnids=["n1"] * 100)
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, part in zip(paths, vectors.parts, strict=True):
        write_codes(path, part, encode_part(encoder, part), 28, {"method": "autoencoder"})
    codes = open_vectors(paths)
    assert codes.about == {"method": "autoencoder", "bits": 28, "padding": 4}
    assert codes.keys == vectors.keys
    assert codes.wnids == vectors.wnids
    assert np.array_equal(codes.read(), np.concatenate([encode(encoder, values[:60]), encode(encoder, values[60:])]))
    assert num_bits_of(codes) == 28
    with pytest.raises(InputError, match="holds vectors, not codes"):
        num_bits_of(vectors)


def test_distinct_codes_are_counted():
    codes = np.random.default_rng(0).integers(0, 3, (500, 3), dtype=np.uint8)
    assert distinct_codes(codes) == len(set(map(tuple, codes.tolist())))
