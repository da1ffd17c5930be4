"""The prediction worker as a process: the same files however it runs, killed and begun again, and given what does not fit."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from base.progress import parse
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.loading.reference import views
from data_shards.planning import ShardConfig, plan_shards
from data_shards.shard_set import ShardSet
from data_shards.writing import write_shard
from model.evaluation.classifiers import Classifier
from model.evaluation.predict import NO_OUTPUT, predict
from model.evaluation.predictions import open_predictions
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours, subtract_mean
from model.network.weights import WeightsInfo, save_weights
from tasks.code import ROOT
from tasks.job import Artifact, Weights, to_job_file
from tasks.jobs.predict import PredictJob
from tasks.workers.networks import open_network

COLOURS = Colours(mean=(115, 114, 116), deviations=(30, 40, 70), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
NETWORK = NetworkConfig(num_classes=20, crop=64, width=1 / 12)
PIXELS_OF_TEN_VIEWS = 1e-6
"""By how much a probability may differ between DALI's views and the reference's: not at all, but for the order of sums."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Eighty images in tars of 23, 23, 23 and 11."""
    directory, work = tmp_path_factory.mktemp("val"), tmp_path_factory.mktemp("work")
    dataset, config = Synthetic(train_per_class=1, val_per_class=4), ShardConfig(storage="square72", samples_per_shard=23)
    for plan in plan_shards(dataset, "val", config, work):
        write_shard(dataset, plan, config, directory, work)
    write_lists(dataset, directory, work)
    return directory


@pytest.fixture(scope="module")
def weights(shards, tmp_path_factory):
    directory = tmp_path_factory.mktemp("weights")
    return [save_network(directory / f"{seed}.safetensors", ShardSet.open(shards).wnids, seed) for seed in range(2)]


def save_network(path, wnids, seed=0, network=NETWORK):
    save_weights(AlexNet(network).initialise(seed), WeightsInfo(network=network, colours=COLOURS, wnids=wnids), path)
    return path


def job_files(folder, shards, weights, classifier=None, **changes):
    """Write a job for each weights file; return the paths."""
    made = Artifact(path=shards, digest="shards", counts={"shards": 4})
    about = {"dataset": "synthetic", "split": "val"}
    paths = []
    for path in weights:
        values = {"weights": Weights(path=path, digest=path.stem), "shards": made, **about, "about": about, **changes}
        paths.append(folder / path.stem / "job.json")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_bytes(to_job_file(PredictJob(**values, classifier=classifier)))
    return paths


def start(jobs, worker="predict", share="0/1"):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", f"tasks.workers.{worker}", *map(str, jobs), share],
        cwd=ROOT,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(jobs, processes=1):
    """Run all shares side by side, then join; return what was reported."""
    said = ""
    for worker, total in (("predict", processes), ("join", 1)):
        for process in [start(jobs, worker, f"{n}/{total}") for n in range(total)]:
            said += process.communicate(timeout=120)[0]
            assert process.returncode == 0, said
    return [parse(line) for line in said.splitlines()]


MANY = """
import json, sys
from base.errors import InputError
from tasks.jobs.predict import PredictJob
from tasks.workers import join, predict
from tasks.workers.entry import _run
for jobs in json.loads(sys.argv[1]):
    try:
        for share in ("0/3", "1/3", "2/3"):
            sys.argv[1:] = [*jobs, share]
            _run(PredictJob, predict.main)
        sys.argv[1:] = jobs
        _run(PredictJob, join.main)
        said = None
    except InputError as error:
        said = str(error)
    print("ended:", json.dumps(said), flush=True)
"""


def end_of_each(*all_jobs):
    """Do several lists of jobs in one process, which is soon done; return why each was refused."""
    arguments = json.dumps([[str(job) for job in jobs] for jobs in all_jobs])
    command = [sys.executable, "-W", "error", "-c", MANY, arguments]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False
    )
    ends = [json.loads(line.removeprefix("ended: ")) for line in done.stdout.splitlines() if line.startswith("ended: ")]
    assert len(ends) == len(all_jobs), done.stdout
    return ends


def files(folder):
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/predictions.parquet")}


@pytest.fixture(scope="module")
def plain(shards, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return folder, finish(job_files(folder, shards, weights))


def test_every_image_of_the_list_is_predicted_once(plain, shards, weights):
    folder, said = plain
    images = [message for message in said if message.unit == "images"]
    assert (images[-1].done, images[-1].total) == (80, 80)
    for path in weights:
        file = open_predictions(folder / path.stem / "predictions.parquet")
        assert file.image_ids == list(ShardSet.open(shards).samples["key"])
        assert file.class_indices.tolist() == ShardSet.open(shards).class_indices.tolist()
        counts = json.loads((folder / path.stem / "counts.json").read_text())
        assert counts == {"images": 80, "top1_wrong": int((pd.read_parquet(file.path)["rank"] > 1).sum())} | {
            "top5_wrong": int((pd.read_parquet(file.path)["rank"] > 5).sum())
        }
    assert sorted(path.name for path in (folder / "0").iterdir()) == ["counts.json", "job.json", "predictions.parquet", "work"]


def test_a_file_says_how_it_was_made(plain):
    about = open_predictions(plain[0] / "1" / "predictions.parquet").about
    expected = {"dataset": "synthetic", "split": "val", "views": 10, "decoder": "DALI", "dtype": "float32", "device": "cpu"}
    assert {name: about[name] for name in expected} == expected
    assert (about["weights"], about["crop"], about["stored_side"]) == ("1", 64, 72)
    assert (about["mean"], about["scale"]) == ([115, 114, 116], [1, 1, 1])
    assert about["libraries"]["torch"] == version("torch")  # PyPI's build calls itself 2.13.0+cu130 as a module
    assert set(about["libraries"]) == {"python", "torch", "nvidia-dali-cuda130", "numpy", "pyarrow"}


HOW = [
    {"batch_size": 1},
    {"batch_size": 7, "num_threads": 3},
    {"batch_size": 64, "devices": ("cpu", "cpu")},
    {"batch_size": 7, "devices": ("cpu", "cpu", "cpu"), "num_threads": 2},
]


CLASSIFIER_TENSORS = {
    "2.weight": torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) / 50,
    "2.bias": torch.zeros(20),
}


def mean_colours():
    """A factory: the mean of each colour, times numbers, are the logits."""
    return torch.nn.Sequential(torch.nn.AvgPool2d(48), torch.nn.Flatten(), torch.nn.Linear(3, 20))


def without_labels(shards, directory):
    """The same images as a set whose truth is not public: the index knows of no labels."""
    directory.mkdir()
    for path in shards.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    for path in directory.glob("*.idx"):
        path.write_text(re.sub(r" cls \d+ \d+ \S+", "", path.read_text()))
    samples = pd.read_parquet(directory / "samples.parquet")
    samples["class_index"] = pd.array([None] * len(samples), "Int32")
    samples["wnid"] = None
    samples.to_parquet(directory / "samples.parquet")
    return directory


def finished(folder, shards, weights):
    """Killed after the counts were written."""
    jobs = job_files(folder, shards, weights)
    for path in weights:
        (folder / path.stem / "predictions.parquet").write_bytes(b"as it was")
        (folder / path.stem / "counts.json").write_text("{}")
    return jobs


def classified(folder, shards, weights):
    """One of our networks, and a classifier that reads smaller crops and has its classes in another order."""
    save_file(CLASSIFIER_TENSORS, folder / "c.safetensors")
    classifier = Classifier(
        factory="tests.tasks.workers.test_predict:mean_colours",
        input_size=48,
        mean=(100, 110, 120),
        scale=(2, 3, 4),
        wnids=ShardSet.open(shards).wnids[::-1],
    )
    return job_files(folder, shards, weights[:1]) + job_files(folder, shards, [folder / "c.safetensors"], classifier)


@pytest.fixture(scope="module")
def ended(shards, weights, tmp_path_factory):
    """Return the folder in which jobs of many kinds have run, one after the other."""
    folder = tmp_path_factory.mktemp("ended")
    jobs = [job_files(folder / str(n), shards, weights, **how) for n, how in enumerate(HOW)]
    jobs.append(job_files(folder / "unlabelled", without_labels(shards, folder / "test"), weights))
    for make in (finished, classified):
        (folder / make.__name__).mkdir()
        jobs.append(make(folder / make.__name__, shards, weights))
    assert end_of_each(*jobs) == [None] * len(jobs)
    return folder


@pytest.mark.parametrize("number", range(len(HOW)))
def test_neither_batches_nor_threads_nor_processes_change_a_byte(plain, ended, number):
    assert files(ended / str(number)) == files(plain[0])


def test_what_is_finished_is_not_made_again(ended):
    assert files(ended / "finished") == {"0": b"as it was", "1": b"as it was"}
    assert not list(ended.glob("finished/*/work/parts"))


def test_images_without_labels_are_predicted_all_the_same(plain, ended):
    known, unknown = (open_predictions(folder / "0" / "predictions.parquet") for folder in (plain[0], ended / "unlabelled"))
    assert unknown.class_indices is None
    assert np.array_equal(unknown.answers().best, known.answers().best)
    assert json.loads((ended / "unlabelled" / "0" / "counts.json").read_text()) == {"images": 80}


def test_a_classifier_is_scored_beside_a_network_of_ours(plain, ended, shards):
    assert files(ended / "classified")["0"] == files(plain[0])["0"]
    found = open_predictions(ended / "classified" / "c" / "predictions.parquet")
    pixels = np.stack(list(views(ShardSet.open(shards), 48, 10))).mean(axis=(2, 3))  # (80, 10, 3)
    inputs = torch.from_numpy((pixels - (100, 110, 120)) / (2, 3, 4)).float()
    expected = (inputs @ CLASSIFIER_TENSORS["2.weight"].T).softmax(-1).mean(1).flip(1)
    np.testing.assert_allclose(np.concatenate(list(found.probs())), expected, atol=1e-5)
    assert (found.about["factory"].rpartition(":")[2], found.about["crop"]) == ("mean_colours", 48)


def test_killed_and_begun_again_it_ends_with_the_same_bytes(plain, shards, weights, tmp_path):
    jobs = job_files(tmp_path, shards, weights)
    process = start(jobs)
    while not list(tmp_path.glob("*/work/parts/val-00001.parquet")):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not files(tmp_path)
    (tmp_path / "0" / "work" / "parts" / "val-00003.parquet.partial").write_bytes(b"half a part")
    said = finish(jobs, processes=2)
    resumed = sum(next(message.done for message in said if message.total == share) for share in (46, 34))
    assert resumed in (23, 46, 69)
    assert files(tmp_path) == files(plain[0])


def test_the_probabilities_are_those_of_the_reference_views(plain, shards, weights):
    network = AlexNet(NETWORK).initialise(0).eval()
    found = np.concatenate(list(open_predictions(plain[0] / "0" / "predictions.parquet").probs()))
    reference = torch.from_numpy(np.stack(list(views(ShardSet.open(shards), 64, 10))))
    with torch.inference_mode():
        logits = network(subtract_mean(reference.flatten(0, 1), COLOURS))
    np.testing.assert_allclose(found, logits.softmax(1).view(80, 10, 20).mean(1), atol=PIXELS_OF_TEN_VIEWS)


def wrong_labels(shards, weights, tmp_path):
    """A list whose numbering is another than the tars'."""
    directory = tmp_path / "val"
    directory.mkdir()
    for path in shards.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    samples = pd.read_parquet(directory / "samples.parquet")
    samples["class_index"] = (samples["class_index"] + 1) % 20
    samples.to_parquet(directory / "samples.parquet")
    return {"shards": directory, "weights": weights}


def test_a_network_of_other_classes_is_ranked_among_those_of_the_images(shards, tmp_path):
    wnids = ShardSet.open(shards).wnids
    path = save_network(
        tmp_path / "w.safetensors", [*wnids[:12][::-1], "n0"], 0, NETWORK.model_copy(update={"num_classes": 13})
    )
    opened = open_network(path, ShardSet.open(shards), torch.device("cpu"), other_classes=True)
    seen = torch.randint(0, 256, (3, 1, 64, 64, 3), dtype=torch.uint8)
    (probs,) = next(predict([opened.predictor], [seen]))
    (own,) = next(predict([opened.predictor._replace(columns=None)], [seen]))
    assert torch.equal(probs[:, :12], own[:, :12].flip(1))
    assert (probs[:, 12:] == NO_OUTPUT).all()


def missing_shard(shards, weights, tmp_path):
    directory = tmp_path / "val"
    directory.mkdir()
    for path in shards.iterdir():
        if path.name != "val-00002.tar":
            (directory / path.name).write_bytes(path.read_bytes())
    return {"shards": directory, "weights": weights}


def other_classes(shards, weights, tmp_path):
    return {"shards": shards, "weights": [save_network(tmp_path / "w.safetensors", [f"n{n}" for n in range(20)])]}


def other_order(shards, weights, tmp_path):
    return {"shards": shards, "weights": [save_network(tmp_path / "w.safetensors", ShardSet.open(shards).wnids[::-1])]}


def large_crop(shards, weights, tmp_path):
    network = NETWORK.model_copy(update={"crop": 80})
    return {"shards": shards, "weights": [save_network(tmp_path / "w.safetensors", ShardSet.open(shards).wnids, 0, network)]}


def broken_weights(shards, weights, tmp_path):
    network = AlexNet(NETWORK).initialise(0)
    network.fc8.bias.data[3] = float("nan")
    info = WeightsInfo(network=NETWORK, colours=COLOURS, wnids=ShardSet.open(shards).wnids)
    save_weights(network, info, tmp_path / "w.safetensors")
    return {"shards": shards, "weights": [tmp_path / "w.safetensors"]}


def cut_part(shards, weights, tmp_path):
    for number in range(4):
        part = tmp_path / "0" / "work" / "parts" / f"val-0000{number}.parquet"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"PAR1 cut short")
    return {"shards": shards, "weights": weights[:1]}


REFUSED = {
    wrong_labels: "the labels in the tars of .*val differ from its samples.parquet; delete it to shard again$",
    missing_shard: "val-00002.tar is missing; restore it, or delete .* to shard again$",
    other_classes: "w.safetensors has 20 classes and .* has 20, or different ones; test it on the images of its own classes$",
    other_order: "w.safetensors has 20 classes and .* has 20, or different ones; test it on the images of its own classes$",
    large_crop: "w.safetensors reads crops of 80 px; .* stores 72 px: shard with a larger side$",
    broken_weights: "w.safetensors on val-0000.*tar: found probabilities that are not finite numbers",
    cut_part: "val-00000.parquet is not a whole predictions file .*; predict again$",
}


def test_what_does_not_fit_is_refused_in_one_sentence(shards, weights, tmp_path):
    jobs = []
    for spoil in REFUSED:
        folder = tmp_path / spoil.__name__
        folder.mkdir()
        jobs.append(job_files(folder, **spoil(shards, weights, folder), devices=("cpu", "cpu")))
    for job, end, message in zip(jobs, end_of_each(*jobs), REFUSED.values(), strict=True):
        folder = job[0].parents[1]
        assert re.search(message, end or ""), f"{folder.name}: {end}"
        assert not files(folder)
