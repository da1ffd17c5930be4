"""The training worker as a process: without Prefect, killed and begun again, and given things that do not fit."""

import os
import random
import re
import signal
import subprocess
import sys
import time

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
TRAINING = TrainConfig(epochs=6, batch_size=16, learning_rate=0.005, schedule="steps", validate_every=2, fresh_after_steps=0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    dataset, config = Synthetic(train_per_class=6, val_per_class=2), ShardConfig(side=72, samples_per_shard=50)
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
        "record_every": 5,
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
    assert "waiting for images" in said
    network, info = load_weights(folder / "weights.safetensors")
    assert network.config == NETWORK
    assert info.colours == COLOURS
    assert len(info.wnids) == 20
    assert not (folder / "checkpoints").exists()


def test_its_metrics_count_every_image_of_every_epoch(unbroken):
    metrics = pd.read_parquet(unbroken[0] / "metrics.parquet")
    assert list(metrics["step"]) == [5, 8, 13, 16, 21, 24, 29, 32, 37, 40, 45, 48]
    assert (metrics.groupby("epoch")["train_num_images"].sum() == 120).all()
    assert list(metrics["epoch"].unique()) == [1, 2, 3, 4, 5, 6]
    assert list(metrics["val_num_images"].dropna()) == [40, 40, 40]
    assert (metrics["wait_seconds"] <= metrics["seconds"]).all()


def test_killed_at_five_random_moments_it_ends_with_the_same_bytes(unbroken, shards, tmp_path):
    job = job_file(tmp_path, shards, checkpoint_minutes=0)
    moments = random.Random()
    resumed, seed = [], moments.randrange(10**6)
    moments.seed(seed)
    for _ in range(5):
        process, before = worker(job), newest_checkpoint(tmp_path)
        while newest_checkpoint(tmp_path) == before:  # it has begun to learn
            assert process.poll() is None, process.stdout.read()
        time.sleep(moments.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        resumed.append(process.communicate(timeout=30)[0])
        assert not (tmp_path / "weights.safetensors").exists(), f"it was too fast for the moments of {seed}"
    said = worker(job).communicate(timeout=120)[0]
    assert all("resumed after epoch" in lines for lines in [*resumed[1:], said])
    assert any("images\n" in lines for lines in [*resumed[1:], said]), f"no moment of {seed} lay within an epoch"
    assert (tmp_path / "weights.safetensors").read_bytes() == (unbroken[0] / "weights.safetensors").read_bytes()


def newest_checkpoint(folder):
    return max((path.name for path in (folder / "checkpoints").glob("*.pt")), default="")


def test_on_sigterm_it_saves_says_so_and_leaves(unbroken, shards, tmp_path):
    job = job_file(tmp_path, shards, training=TRAINING.model_copy(update={"epochs": 1000}))
    process = worker(job)
    while not newest_checkpoint(tmp_path):
        assert process.poll() is None, process.stdout.read()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == -signal.SIGTERM
    assert re.match(
        r"asked to stop.*; the training is saved and goes on from here; in epoch \d+ after \d+ images, step \d+, "
        rf"at learning rate 0.005; the last good checkpoint is {tmp_path}/checkpoints/{newest_checkpoint(tmp_path)}$",
        said.strip().splitlines()[-1],
    )
    assert "Traceback" not in said


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
        (
            {"training": TRAINING.model_copy(update={"learning_rate": 1e30})},
            r"the loss became (nan|inf) in step \d; lower the learning rate; in epoch 1 after \d+ images, step \d, at learning "
            r"rate 1e\+30; there is no checkpoint yet$",
        ),
        (
            {"training": TRAINING.model_copy(update={"mean": "image"})},
            "no .*mean_image.npy: a mean image needs images of one size",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(changes, message, shards, tmp_path):
    process = worker(job_file(tmp_path, shards, **changes))
    said = process.communicate(timeout=120)[0]
    assert process.returncode == EXIT_BAD_INPUT, said
    assert re.match(f"error: .*{message}", said.strip().splitlines()[-1]), said
    assert "Traceback" not in said
