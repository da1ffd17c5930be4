"""The training worker as a process: without Prefect, killed and started again, and with input that does not fit."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from base.progress import Silent
from data_shards.loading.order import epoch_order
from data_shards.shard_set import ShardSet
from model.network.weights import load_weights
from tasks.job import Artifact, Share, Weights
from tasks.jobs.train import TrainJob
from tasks.launch import ROOT
from tasks.workers.guard import EXIT_BAD_INPUT
from tasks.workers.train import main
from tests import forked


def arguments(job_file):
    """Return what the worker passes to `main`."""
    return TrainJob.model_validate_json(job_file.read_bytes()), job_file.parent, Silent(), Share()


@pytest.fixture(scope="module")
def unbroken(job_file, worker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    process = worker(job_file(folder), without_prefect=True)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    return folder, said


def test_it_trains_if_prefect_is_not_installed(unbroken, messages):
    folder, said = unbroken
    first, *_, last = messages(said)
    assert first.text == "starting: 6 epochs of 120 images"
    assert (last.done, last.total, last.unit) == (720, 720, "images")
    assert re.fullmatch(r"epoch 6/6  loss .*  val .*  \d+% waiting for images", last.text)
    network, info = load_weights(folder / "weights.safetensors")
    job, *_ = arguments(folder / "job.json")
    assert network.config == job.network
    assert info.colours.model_dump_json() == (job.colours.path / "colours.json").read_text()
    assert len(info.wnids) == 20


def test_it_writes_its_counts_and_keeps_checkpoints_in_the_scratch_space(unbroken):
    folder, _ = unbroken
    counts = json.loads((folder / "counts.json").read_bytes())
    assert counts.pop("val_top5_wrong") <= counts.pop("val_top1_wrong") <= 40
    assert counts == {"epochs": 6, "images_per_epoch": 120, "val_images": 40}
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["counts.json", "events", "job.json", "metrics.parquet", "weights.safetensors", "work"]
    assert [path.name for path in (folder / "work").iterdir()] == ["checkpoints"]


def test_started_again_after_its_last_epoch_it_leaves_the_same_bytes(unbroken, tmp_path):
    folder = shutil.copytree(unbroken[0], tmp_path / "killed")
    weights, counts = folder / "weights.safetensors", folder / "counts.json"
    before, expected = weights.read_bytes(), json.loads(counts.read_bytes())
    weights.unlink()
    counts.unlink()  # killed before it wrote them
    signals = [signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)]
    try:
        assert main(*arguments(folder / "job.json")) == expected
    finally:
        for which, handler in zip((signal.SIGTERM, signal.SIGINT), signals, strict=True):
            signal.signal(which, handler)
    assert weights.read_bytes() == before


def test_its_metrics_count_every_image_of_every_epoch(unbroken):
    metrics = pd.read_parquet(unbroken[0] / "metrics.parquet")
    assert list(metrics["step"]) == [5, 8, 13, 16, 21, 24, 29, 32, 37, 40, 45, 48]
    assert (metrics.groupby("epoch")["train_num_images"].sum() == 120).all()
    assert list(metrics["epoch"].unique()) == [1, 2, 3, 4, 5, 6]
    assert list(metrics["val_num_images"].dropna()) == [40, 40, 40]
    assert (metrics["wait_seconds"] <= metrics["seconds"]).all()


def test_it_leaves_one_event_file(unbroken):
    assert len(list((unbroken[0] / "events").iterdir())) == 1


def test_training_imports_neither_matplotlib_nor_numba():
    code = "import sys, tasks.workers.train; print({'matplotlib', 'numba'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "set()\n"


def test_killed_at_five_random_moments_it_ends_with_the_same_bytes(
    unbroken, job_file, forking, program, newest_checkpoint, tmp_path
):
    job = job_file(tmp_path, checkpoint_minutes=0)
    command = [sys.executable, "-m", "tasks.workers.train", str(job)]
    seed = random.randrange(10**6)
    moments, killed_after = random.Random(seed), []
    for _ in range(5):
        before = newest_checkpoint(tmp_path)
        process = forked.start(command, tmp_path / "said.txt", forking)
        while newest_checkpoint(tmp_path) == before:  # it has begun to learn
            assert process.is_alive(), (tmp_path / "said.txt").read_text()
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"it was done before the moments of {seed} were over"
        killed_after.append(newest_checkpoint(tmp_path))
    assert killed_after == sorted(set(killed_after))
    assert any("-000000120" not in name for name in killed_after), f"no moment of {seed} lay within an epoch"
    last = program("tasks.workers.train", job)
    assert last.returncode == 0, last.stdout
    assert (tmp_path / "weights.safetensors").read_bytes() == (unbroken[0] / "weights.safetensors").read_bytes()


def test_on_sigterm_it_saves_says_so_and_stops(job_file, worker, messages, newest_checkpoint, tmp_path):
    job = job_file(tmp_path, training={"epochs": 1000})
    process = worker(job)
    while not newest_checkpoint(tmp_path):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == -signal.SIGTERM
    assert re.match(
        r"asked to stop.*; the training is saved and can resume; in epoch \d+ after \d+ images, step \d+, "
        rf"at learning rate 0.005; the last good checkpoint is {tmp_path}/work/checkpoints/{newest_checkpoint(tmp_path)}$",
        messages(said)[-1].text,
    )
    assert "Traceback" not in said


@pytest.mark.parametrize("keep_classes", [None, True])
def test_fine_tuning_starts_from_the_weights_it_is_given(unbroken, job_file, program, tmp_path, keep_classes):
    source = unbroken[0] / "weights.safetensors"
    training, initial = {"epochs": 1, "learning_rate": 1e-9}, Weights(path=source, digest="source")
    done = program("tasks.workers.train", job_file(tmp_path, training=training, initial=initial, keep_classes=keep_classes))
    assert done.returncode == 0, done.stdout
    before, after = load_weights(source)[0].state_dict(), load_weights(tmp_path / "weights.safetensors")[0].state_dict()
    assert (before["fc7.a.weight"] - after["fc7.a.weight"]).abs().max() < 1e-5
    assert ((before["fc8.weight"] - after["fc8.weight"]).abs().max() > 1e-3) == (keep_classes is None)


REFUSED = {
    "classes": ({"network": {"num_classes": 9}}, "a network of 9 classes cannot learn the 20 of"),
    "crop": ({"network": {"crop": 96}}, "crops of 96 px do not fit images of 72 px"),
    "shards": ({"train": Artifact(path="nowhere", digest="")}, "nowhere is not a shard set"),
    "weights": ({"initial": Weights(path="nothing.safetensors", digest="")}, "no weights file nothing.safetensors"),
    "mean": ({"training": {"mean": "image"}}, "no .*mean_image.npy: a mean image needs images of one size"),
    "rate": (
        {"training": {"learning_rate": 1e30}},
        r"the loss became (nan|inf) in step \d; lower the learning rate; in epoch 1 after \d+ images, step \d, at learning "
        r"rate 1e\+30; there is no checkpoint yet$",
    ),
}


def test_input_that_does_not_fit_is_refused_in_one_sentence(job_file, in_turn, tmp_path):
    jobs = {name: job_file(tmp_path / name, **changes) for name, (changes, _) in REFUSED.items()}
    for (name, (_, message)), end in zip(REFUSED.items(), in_turn(*([("train", job)] for job in jobs.values())), strict=True):
        assert re.match(f".*{message}", end or ""), f"{name}: {end}"


def test_a_shard_that_becomes_unreadable_ends_the_training_with_the_place_named(
    shards, job_file, program, messages, newest_checkpoint, tmp_path
):
    train = ShardSet.open(shutil.copytree(shards / "train", tmp_path / "train"))
    last = epoch_order(train, 0, 0)[-1]
    offset, size = map(int, last.lines[-1].split()[1:3])
    with open(last.tar, "r+b") as tar:
        tar.seek(offset)
        tar.write(bytes(size))
    job = job_file(tmp_path / "run", train=Artifact(path=train.directory, digest=""), checkpoint_minutes=0)
    done = program("tasks.workers.train", job)
    said = done.stdout
    assert done.returncode == EXIT_BAD_INPUT, said
    checkpoint = tmp_path / "run" / "work" / "checkpoints" / newest_checkpoint(tmp_path / "run")
    assert re.match(
        rf"cannot read the images of {train.directory} \(nvImageCodec failure.*\); check it with python -m flows.verify.*; "
        rf"in epoch 1 after \d+ images, step \d, at learning rate 0.005; the last good checkpoint is {checkpoint}$",
        messages(said)[-1].text,
    ), said
    assert "Traceback" not in said


def test_a_checkpoint_that_does_not_fit_ends_the_training_with_the_place_named(job_file, in_small_disk, messages, tmp_path):
    job_file(tmp_path, network={"width": 1 / 8}, training={"epochs": 1, "schedule": "plateau"})
    command = [*in_small_disk, sys.executable, "-m", "tasks.workers.train", str(tmp_path / "disk" / "job.json")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (EXIT_BAD_INPUT, "")
    path = tmp_path / "disk" / "work" / "checkpoints" / "0000-000000120.pt"
    said = messages(ended.stdout)[-1].text
    assert said.startswith(f"cannot write the checkpoint {path} ("), said
    assert said.endswith(
        "No space left on device); if the disk is full, free some space; then run again; "
        "in epoch 1 after 120 images, step 8, at learning rate 0.005; there is no checkpoint yet"
    ), said
