"""The training worker as a process: without Prefect, killed and begun again, and given things that do not fit."""

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest

from data_shards.datasets.synthetic import Synthetic
from data_shards.writing import ShardConfig, plan_shards, write_lists, write_shard
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from model.network.weights import load_weights
from model.training.config import TrainConfig
from tasks.artifacts import ROOT
from tasks.workers.guard import EXIT_BAD_INPUT
from tasks.workers.jobs import TrainJob

COLOURS = Colours(mean=(115, 114, 116), deviations=(30, 40, 70), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
NETWORK = NetworkConfig(num_classes=20, crop=64, width=1 / 12)
TRAINING = TrainConfig(epochs=6, batch_size=16, learning_rate=0.005, schedule="steps", validate_every=2)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    dataset, config = Synthetic(train_per_class=6, val_per_class=2), ShardConfig(storage="square72", samples_per_shard=50)
    for split in ("train", "val"):
        (root / split).mkdir()
        written = [write_shard(dataset, plan, config, root / split) for plan in plan_shards(dataset, split, config)]
        write_lists(dataset, written, root / split)
    (root / "colours.json").write_text(COLOURS.model_dump_json())
    return root


def job_file(folder, shards, **changes):
    folder.mkdir(exist_ok=True)
    values = {
        "network": NETWORK,
        "training": TRAINING,
        "train_shards": shards / "train",
        "val_shards": shards / "val",
        "colours": shards / "colours.json",
        **changes,
    }
    (folder / "job.json").write_text(TrainJob(**values).model_dump_json())
    return folder / "job.json"


def worker(job, without_prefect=False):
    command = ["-m", "tasks.workers.train", str(job)]
    if without_prefect:
        code = "import sys, runpy; sys.modules['prefect'] = None; sys.argv[0] = 'x'; "
        command = ["-c", code + "runpy.run_module('tasks.workers.train', run_name='__main__')", str(job)]
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def unbroken(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    process = worker(job_file(folder, shards), without_prefect=True)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    return folder, said


def test_it_trains_where_prefect_is_not_installed(unbroken):
    folder, said = unbroken
    assert said.strip().splitlines()[-1].startswith("100%  epoch 6/6")
    network, info = load_weights(folder / "weights.safetensors")
    assert network.config == NETWORK
    assert info.colours == COLOURS
    assert len(info.wnids) == 20
    assert not (folder / "checkpoint.pt").exists()


def test_its_metrics_count_every_image_of_every_epoch(unbroken):
    metrics = pd.read_parquet(unbroken[0] / "metrics.parquet")
    assert list(metrics["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert (metrics["train_num_images"] == 120).all()
    assert list(metrics["val_num_images"].dropna()) == [40, 40, 40]


def test_killed_and_begun_again_it_ends_with_the_same_bytes(unbroken, shards, tmp_path):
    job = job_file(tmp_path, shards)
    process = worker(job)
    while not (tmp_path / "checkpoint.pt").exists():
        assert process.poll() is None, process.stdout.read()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not (tmp_path / "weights.safetensors").exists()
    again = worker(job)
    said = again.communicate(timeout=120)[0]
    assert again.returncode == 0, said
    assert "resumed after epoch" in said
    assert (tmp_path / "weights.safetensors").read_bytes() == (unbroken[0] / "weights.safetensors").read_bytes()


def test_fine_tuning_starts_from_the_weights_it_is_given(unbroken, shards, tmp_path):
    source = unbroken[0] / "weights.safetensors"
    training = TRAINING.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
    process = worker(job_file(tmp_path, shards, training=training, initial_weights=source))
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    before, after = load_weights(source)[0].state_dict(), load_weights(tmp_path / "weights.safetensors")[0].state_dict()
    assert (before["fc7.a.weight"] - after["fc7.a.weight"]).abs().max() < 1e-5
    assert (before["fc8.weight"] - after["fc8.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": NETWORK.model_copy(update={"num_classes": 9})}, "a network of 9 classes cannot learn the 20 of"),
        ({"network": NETWORK.model_copy(update={"crop": 96})}, "crops of 96 px do not fit images of 72 px"),
        ({"train_shards": "nowhere"}, "nowhere is no shard set"),
        ({"initial_weights": "nothing.safetensors"}, "no weights file nothing.safetensors"),
        ({"training": TRAINING.model_copy(update={"learning_rate": 1e30})}, "the loss became (nan|inf)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(changes, message, shards, tmp_path):
    import re

    process = worker(job_file(tmp_path, shards, **changes))
    said = process.communicate(timeout=120)[0]
    assert process.returncode == EXIT_BAD_INPUT, said
    assert re.match(f"error: .*{message}", said.strip().splitlines()[-1]), said
    assert "Traceback" not in said
