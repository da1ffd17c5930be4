"""One network in three layouts: the same weights file for all, the same step, and replicas that stop and resume together."""

import json
import os
import re
import signal
import time

import pandas as pd
import pytest
import torch

from model.network.weights import load_weights
from tasks.workers.guard import EXIT_BAD_INPUT

CPU = torch.device("cpu")
ONE_STEP = {"network": {"dropout": 0.0}, "training": {"epochs": 1, "batch_size": 120}}
UNEVEN = {"batch_size": 17}
"""Two replicas have 9 and 8 images of each batch, and of the last batch of 120 one and none."""
TWO = {"layout": "replicas", "devices": ["cpu", "cpu"]}
LAYOUTS = {
    "towers": {"layout": "towers", "devices": ["cpu", "cpu"]},
    "one piece": {"layout": "one-piece", "devices": ["cpu"]},
    "replicas": TWO,
}


@pytest.fixture
def finish(program):
    """Return a function that trains to the end and returns what was said."""

    def finish(job):
        done = program("tasks.workers.train", job)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return finish


@pytest.fixture(scope="module")
def after_one_step(job_file, in_turn, tmp_path_factory):
    """Each layout's weights after one step."""
    root = tmp_path_factory.mktemp("layouts")
    jobs = {name: job_file(root / name, **ONE_STEP, **layout) for name, layout in LAYOUTS.items()}
    assert in_turn(*([("train", job)] for job in jobs.values())) == [None] * 3
    return {name: job.with_name("weights.safetensors") for name, job in jobs.items()}


@pytest.mark.parametrize("name", ["one piece", "replicas"])
def test_one_step_is_the_same_in_every_layout(after_one_step, name):
    expected, found = (load_weights(after_one_step[layout])[0].state_dict() for layout in ("towers", name))
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_reads_the_weights_of_every_other(after_one_step, name):
    network, _ = load_weights(after_one_step[name])
    images = torch.randn(3, 3, 64, 64) * 60
    with torch.inference_mode():
        towers, one_piece = (network.eval().place(CPU, CPU, together)(images) for together in (False, True))
    torch.testing.assert_close(towers, one_piece, rtol=1e-5, atol=1e-5)


def test_replicas_stop_lose_one_and_still_end_with_the_same_bytes(
    job_file, worker, finish, messages, newest_checkpoint, processes, tmp_path
):
    options = {"training": {**UNEVEN, "epochs": 3}, **TWO}
    unbroken, broken = (job_file(tmp_path / name, **options, checkpoint_minutes=0) for name in ("unbroken", "broken"))
    said = finish(unbroken)
    texts = [message.text for message in messages(said)]
    assert texts.count("starting: 3 epochs of 120 images") == 1, "one replica reports for all"
    assert json.loads(unbroken.with_name("counts.json").read_bytes())["images_per_epoch"] == 120

    def begin():
        process, before = worker(broken), newest_checkpoint(broken.parent)
        while newest_checkpoint(broken.parent) == before:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.002)
        return process

    process = begin()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == -signal.SIGTERM, said
    assert "the training is saved and can resume" in said
    assert "Traceback" not in said
    assert not processes(broken.parent)

    process = begin()
    replicas = processes(broken.parent).keys() - {process.pid}
    assert len(replicas) == 2
    os.kill(max(replicas), signal.SIGKILL)
    said = process.communicate(timeout=40)[0]
    assert process.returncode == 1, said
    assert re.search(r"replica 1 of 2 was killed by signal 9; the others were stopped", said)
    assert not processes(broken.parent)

    said = finish(broken)
    assert "resumed after epoch" in said
    counts = ["train_num_images", "train_top1_wrong", "train_top5_wrong", "val_top1_wrong"]
    expected, found = (
        pd.read_parquet(job.with_name("metrics.parquet")).groupby("epoch")[counts].sum() for job in (unbroken, broken)
    )
    pd.testing.assert_frame_equal(found, expected)
    assert (found["train_num_images"] == 120).all()
    first, second = (job.with_name("weights.safetensors").read_bytes() for job in (unbroken, broken))
    assert first == second


def test_input_that_does_not_fit_is_refused_in_one_sentence_by_all_replicas(job_file, program, messages, tmp_path):
    done = program("tasks.workers.train", job_file(tmp_path, network={"num_classes": 9}, **TWO))
    assert done.returncode == EXIT_BAD_INPUT, done.stdout
    refusals = {(message.error, message.text.partition(" learn")[0]) for message in messages(done.stdout)}
    assert refusals == {(True, "a network of 9 classes cannot")}
