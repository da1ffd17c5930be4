"""The worker of codes as a process: every method, killed while it trains, and more bits than can be fitted."""

import json
import re

import faiss
import numpy as np
import pytest
import torch

from base.progress import parse
from model.retrieval.autoencoder import load_autoencoder
from model.retrieval.baselines import fit_projection
from model.retrieval.encoding import encode
from model.retrieval.hamming import unpack
from model.retrieval.vectors import open_vectors
from tasks.jobs.codes import CODES, DATABASE, ENCODER, INDEX, QUERIES, CodesJob

METHODS = ("autoencoder", "random-projection", "pca", "itq")
BITS = (28, 128)
"""Of 120 training images there are no 128 principal components."""


@pytest.fixture(scope="module")
def codes_job(vectors, write_job):
    """Return a function that writes the job of encoding features, or pixels."""

    def write(folder, kind="features", **changes):
        values = {
            "methods": METHODS,
            "bits": BITS,
            "seeds": (0, 1),
            "hidden": (32, 16),
            "epochs": 3,
            "batch_size": 32,
            **changes,
        }
        made = {"database": vectors[f"{kind}-train"], "queries": vectors[f"{kind}-val"], "thumbnails": kind == "pixels"}
        return write_job(folder, CodesJob(**made, **values, name="cnn"))

    return write


@pytest.fixture(scope="module")
def ended(codes_job, kill_at, run_in_turn, tmp_path_factory):
    """Return the folder in which jobs have run, why each was refused, and what the worker said."""
    root = tmp_path_factory.mktemp("ended")
    killed = codes_job(root / "killed", bits=(28,), methods=("autoencoder",))
    kill_at("codes", 7, killed)  # the seventh state of twelve
    states = list((root / "killed" / "work").glob("*.pt"))
    assert [torch.load(path, weights_only=True)["step"] for path in states] == [6]
    jobs = [codes_job(root / "features"), codes_job(root / "pixels", "pixels", methods=("autoencoder",)), killed]
    jobs.append(codes_job(root / "none", methods=("pca", "itq"), bits=(121,)))
    return root, *run_in_turn(*([("codes", job)] for job in jobs))


def test_codes_that_fit_are_made_and_others_are_left_out_with_a_sentence(ended):
    root, ends, said = ended
    assert ends[:3] == [None, None, None]
    made = [(row["method"], row["bits"], row["seed"]) for row in json.loads((root / "features" / CODES).read_text())]
    seeds = [(method, bits, seed) for method in METHODS for bits in BITS for seed in ((0,) if method == "pca" else (0, 1))]
    fitting = [code for code in seeds if code[1] == 28 or code[0] in ("autoencoder", "random-projection")]
    assert made == fitting
    lines = [parse(line).text for line in said.splitlines() if "left out" in line]
    left_out = ("pca-128-0", "itq-128-0", "itq-128-1")
    assert [line.split(",")[0] for line in lines[:3]] == [f"codes of cnn: {name} is left out" for name in left_out]
    assert all("there are 120 vectors of " in line for line in lines)
    counts = json.loads((root / "features" / "counts.json").read_text())
    assert counts == {"codes": len(fitting), "database": 120, "queries": 40}


def test_if_no_code_can_be_fitted_it_is_refused(ended):
    root, ends, _ = ended
    assert re.fullmatch("no code of 121 bits can be fitted to 120 vectors of .*; use fewer bits, or more methods", ends[3])
    assert not (root / "none" / "counts.json").exists()


@pytest.mark.parametrize("name", ["autoencoder-28-0", "autoencoder-28-1"])
def test_killed_while_it_trains_it_ends_with_the_same_bytes(ended, name):
    whole, killed = (ended[0] / folder / name for folder in ("features", "killed"))
    paths = [
        path for path in killed.iterdir() if path.suffix != ".partial"
    ]  # those of the killed worker go when it is published
    assert sorted(path.name for path in paths) == sorted((DATABASE, QUERIES, INDEX, ENCODER, "measures.json"))
    for path in paths:
        assert path.read_bytes() == (whole / path.name).read_bytes(), path.name


@pytest.mark.parametrize("method", METHODS)
def test_codes_are_those_of_the_encoder_packed_with_their_keys(ended, vectors, method):
    folder = ended[0] / "features" / f"{method}-28-0"
    for split, file in (("train", DATABASE), ("val", QUERIES)):
        source = open_vectors(sorted(vectors[f"features-{split}"].path.glob("*.arrow")))
        if split == "train":
            auto = method == "autoencoder"
            encoder = load_autoencoder(folder / ENCODER) if auto else fit_projection(method, source, 28, 0)
        codes = open_vectors([folder / file])
        assert codes.keys.equals(source.keys)
        assert codes.wnids.equals(source.wnids)
        assert np.array_equal(codes.read(), encode(encoder, source.read()))
        about = codes.about
        assert (about["method"], about["bits"], about["padding"], about["seed"]) == (method, 28, 4, 0)
        assert about["vectors"] == source.about
        assert codes.num_values == 4


def test_faiss_reads_the_index(ended):
    folder = ended[0] / "features" / "itq-28-1"
    index, codes = faiss.read_index_binary(str(folder / INDEX)), open_vectors([folder / DATABASE]).read()
    assert (index.ntotal, index.d) == (120, 32)
    queries = open_vectors([folder / QUERIES]).read()
    bits = [unpack(one, 28).astype(int) for one in (queries, codes)]
    expected = (bits[0][:, None] != bits[1]).sum(axis=2)
    distances, rows = index.search(queries, 6)
    assert np.array_equal(distances, np.sort(expected, axis=1)[:, :6])
    assert np.array_equal(np.take_along_axis(expected, rows, axis=1), distances)


def test_measures_are_those_of_the_codes(ended):
    for row in json.loads((ended[0] / "features" / CODES).read_text()):
        folder = ended[0] / "features" / f"{row['method']}-{row['bits']}-{row['seed']}"
        bits = unpack(open_vectors([folder / DATABASE]).read(), row["bits"])
        assert row["dead_bits"] == int((bits.all(axis=0) | ~bits.any(axis=0)).sum())
        assert row["distinct_codes"] == len({tuple(code) for code in bits.tolist()})
        assert (row["reconstruction_val"] is None) == (row["method"] != "autoencoder")


def test_pixels_are_shrunk_and_the_thumbnails_are_scratch(ended):
    folder = ended[0] / "pixels"
    assert load_autoencoder(folder / "autoencoder-28-0" / ENCODER).mean.shape == (32 * 32 * 3,)
    assert len(list((folder / "work").glob("thumbnails-*/*.arrow"))) == 4
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [
        *(f"autoencoder-{bits}-{seed}" for bits in (128, 28) for seed in (0, 1)),
        "work",
    ]
