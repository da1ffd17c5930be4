"""The embedding worker as a process: the same files however it runs, killed and begun again, and given what does not fit."""

import json
import re

import numpy as np
import pytest
import torch

from data_shards.loading.reference import views
from data_shards.shard_set import ShardSet
from model.evaluation.classifiers import Factory
from model.network.inputs import subtract_mean
from model.network.weights import load_weights
from model.retrieval.vectors import open_vectors, write_vectors

ONE = ({"batch_size": 1}, 1)
HOW = [
    ({"batch_size": 7, "num_threads": 3}, 1),
    ({"batch_size": 64, "devices": ("cpu", "cpu")}, 2),
    ({"batch_size": 7, "num_threads": 2, "devices": ("cpu", "cpu", "cpu")}, 3),
]
"""Settings, and how many processes share the shards."""


def small_network():
    """A factory: two layers, of which the first is to be read."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(27, 5))
    return torch.nn.Sequential(layers, torch.nn.ReLU(inplace=True), torch.nn.Linear(5, 20))


def other_factory():
    return Factory(
        factory="tests.tasks.workers.test_embed:small_network",
        input_size=48,
        mean=(100, 110, 120),
        scale=(2, 3, 4),
    )


def commands(jobs, processes=1):
    return [*(("embed", *jobs, f"{n}/{processes}") for n in range(processes)), ("embedded", *jobs)]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.arrow")}


@pytest.fixture(scope="module")
def ended(shards, networks, embed_job, in_turn, kill_at, tmp_path_factory):
    """Return the folder in which jobs of many kinds have run, one after the other."""
    root = tmp_path_factory.mktemp("ended")
    torch.save(small_network().state_dict(), root / "small.pt")

    def together(name, **changes):
        return [
            embed_job(root / name / kind, weights, **changes)
            for kind, weights in (("0", networks[0]), ("1", networks[1]), ("pixels", None))
        ]

    cases = [commands(together(str(n), **changes), total) for n, (changes, total) in enumerate([ONE, *HOW])]
    cases += [
        commands([embed_job(root / "alone" / n, w)]) for n, w in (("0", networks[0]), ("1", networks[1]), ("pixels", None))
    ]
    cases.append(commands([embed_job(root / "half", networks[0], dtype="float16")]))
    killed = together("killed", batch_size=7)
    kill_at("embed", 5, *killed)  # the first shard has three files
    assert len(list((root / "killed").glob("*/*.arrow"))) == 4
    (root / "before").write_text(json.dumps({str(p): p.stat().st_mtime_ns for p in (root / "killed").glob("*/*-00000.arrow")}))
    cases.append(commands(killed, 2))
    other = {"factory": other_factory(), "layer": "0"}
    cases.append(commands([embed_job(root / "other", root / "small.pt", **other)]))
    assert in_turn(*cases) == [None] * len(cases)
    return root


@pytest.mark.parametrize("kind", ["0", "1", "pixels"])
@pytest.mark.parametrize("number", range(1, len(HOW) + 1))
def test_neither_batches_nor_threads_nor_processes_change_a_byte(ended, number, kind):
    assert files(ended / str(number) / kind) == files(ended / "0" / kind)


@pytest.mark.parametrize("kind", ["0", "1", "pixels"])
def test_networks_and_pixels_together_equal_each_alone(ended, kind):
    assert files(ended / "alone" / kind) == files(ended / "0" / kind)


@pytest.mark.parametrize("kind", ["0", "1", "pixels"])
def test_killed_and_begun_again_it_ends_with_the_same_bytes(ended, kind):
    assert files(ended / "killed" / kind) == files(ended / "0" / kind)


def test_a_shard_that_was_finished_is_not_made_again(ended):
    before = json.loads((ended / "before").read_text())
    assert len(before) == 3
    assert all((ended / path).stat().st_mtime_ns == time for path, time in before.items())


def test_every_image_has_one_vector_with_its_key_and_label(ended, shards):
    samples = ShardSet.open(shards / "train").samples
    for kind in ("0", "1", "pixels"):
        found = open_vectors(sorted((ended / "0" / kind).glob("*.arrow")))
        assert [part.path.stem for part in found.parts] == ["train-00000", "train-00001", "train-00002"]
        assert found.keys.to_pylist() == list(samples["key"])
        assert found.wnids.to_pylist() == list(samples["wnid"])
        counts = json.loads((ended / "0" / kind / "counts.json").read_text())
        assert counts == {"images": 120, "values": found.num_values}


def test_features_are_those_of_the_reference_views(ended, shards, networks):
    centre = torch.from_numpy(np.stack(list(views(ShardSet.open(shards / "train"), 64, 1))))[:, 0]
    for number, path in enumerate(networks):
        network, info = load_weights(path)
        with torch.inference_mode():
            expected = network.eval().features(subtract_mean(centre, info.colours))
        found = open_vectors(sorted((ended / "0" / str(number)).glob("*.arrow"))).read()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    pixels = open_vectors(sorted((ended / "0" / "pixels").glob("*.arrow"))).read()
    assert np.array_equal(pixels, centre.flatten(1))


def test_a_file_says_how_it_was_made(ended):
    features, pixels = (open_vectors(sorted((ended / "0" / kind).glob("*.arrow"))).about for kind in ("1", "pixels"))
    same = {"dataset": "synthetic", "split": "train", "shards": "train", "crop": 64}
    assert pixels == {**same, "space": "pixels"}
    mean = {"mean": [115, 114, 116], "scale": [1, 1, 1]}
    assert features == {**same, **mean, "space": "features", "weights": "1", "layer": "fc7"}


def test_float16_rounds_the_same_features(ended):
    half, single = (open_vectors(sorted((ended / name).glob("*.arrow"))).read() for name in ("half", "0/0"))
    assert half.dtype == np.float16
    assert np.array_equal(half, single.astype(np.float16))


def test_a_named_layer_of_any_network_is_embedded(ended, shards):
    found = open_vectors(sorted((ended / "other").glob("*.arrow")))
    centre = np.stack(list(views(ShardSet.open(shards / "train"), 48, 1)))[:, 0]
    inputs = torch.from_numpy((centre - (100, 110, 120)) / (2, 3, 4)).float().movedim(3, 1)
    with torch.inference_mode():
        expected = small_network()[0](inputs)
    np.testing.assert_allclose(found.read(), expected, atol=1e-3)
    assert (found.read() < 0).any()  # the ReLU after it works in place
    assert (found.about["layer"], found.about["crop"]) == ("0", 48)


def wrong_layer(embed_job, shards, networks, folder):
    torch.save(small_network().state_dict(), folder / "small.pt")
    return commands([embed_job(folder / "job", folder / "small.pt", factory=other_factory(), layer="fc7")])


def no_layer(embed_job, shards, networks, folder):
    torch.save(small_network().state_dict(), folder / "small.pt")
    return commands([embed_job(folder / "job", folder / "small.pt", factory=other_factory())])


def wide_pixels(embed_job, shards, networks, folder):
    return commands([embed_job(folder / "job", crop=80)])


def cut_vectors(embed_job, shards, networks, folder):
    job = embed_job(folder / "job", networks[0])
    for number in range(3):
        (folder / "job" / f"train-{number:05d}.arrow").write_bytes(b"ARROW1 cut short")
    return commands([job])


REFUSED = {
    wrong_layer: "Sequential has no layer fc7; expected one of 0, 0.0, ",
    no_layer: "Sequential has no layer None; expected one of 0, 0.0, ",
    wide_pixels: "crops of 80 px do not fit the images of 72 px in .*train; use smaller crops, or shard with a larger side$",
    cut_vectors: "train-00000.arrow is not a whole file of vectors .*; delete it to make it again$",
}


def test_what_does_not_fit_is_refused_in_one_sentence(embed_job, shards, networks, in_turn, tmp_path):
    cases = []
    for spoil in REFUSED:
        (tmp_path / spoil.__name__).mkdir()
        cases.append(spoil(embed_job, shards, networks, tmp_path / spoil.__name__))
    for spoil, end, message in zip(REFUSED, in_turn(*cases), REFUSED.values(), strict=True):
        assert re.search(message, end or ""), f"{spoil.__name__}: {end}"
        assert not (tmp_path / spoil.__name__ / "job" / "counts.json").exists()


def test_a_missing_image_is_a_bug(embed_job, networks, ended, tmp_path, in_turn):
    job = embed_job(tmp_path, networks[0])
    for path in (ended / "0" / "0").glob("*.arrow"):
        part = open_vectors([path])
        keys, wnids, values = part.keys.to_pylist(), part.wnids.to_pylist(), part.read()
        fewer = slice(1 if path.stem.endswith("2") else 0, None)
        write_vectors(tmp_path / path.name, keys[fewer], wnids[fewer], values[fewer], part.about)
    with pytest.raises(AssertionError, match="RuntimeError: .* holds 119 vectors, expected one for each of 120 images"):
        in_turn([("embedded", job)])
