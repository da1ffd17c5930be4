"""The training worker as a process, and tiny shards for it to learn from."""

import os
import subprocess
import sys

import pytest

from base.progress import parse
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.planning import ShardConfig, plan_shards
from data_shards.writing import write_shard
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from model.training.config import TrainConfig
from tasks.code import ROOT
from tasks.job import Artifact, to_job_file
from tasks.jobs.colours import COLOURS as COLOURS_FILE
from tasks.jobs.train import CHECKPOINTS, TrainJob

COLOURS = Colours(mean=(115, 114, 116), deviations=(30, 40, 70), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
NETWORK = NetworkConfig(num_classes=20, crop=64, width=1 / 12)
TRAINING = TrainConfig(epochs=6, batch_size=16, learning_rate=0.005, schedule="steps", validate_every=2, fresh_after_steps=0)


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Return a folder with the splits train, of 120 drawn images, and val, of 40, and their colours."""
    root = tmp_path_factory.mktemp("shards")
    dataset, config = Synthetic(train_per_class=6, val_per_class=2), ShardConfig(storage="square72", samples_per_shard=50)
    for split in ("train", "val"):
        work = root / f"{split}.work"
        (root / split).mkdir()
        work.mkdir()
        for plan in plan_shards(dataset, split, config, work):
            write_shard(dataset, plan, config, root / split, work)
        write_lists(dataset, root / split, work)
    (root / COLOURS_FILE).write_text(COLOURS.model_dump_json())
    return root


@pytest.fixture(scope="session")
def job_file(shards):
    """Return a function that writes a job into a folder, with single fields of it, its network and its training changed."""

    def write(folder, network=None, training=None, **changes):
        folder.mkdir(exist_ok=True)
        values = {
            "network": NETWORK.model_copy(update=network or {}),
            "training": TRAINING.model_copy(update=training or {}),
            "name": "cnn",
            "train": Artifact(path=shards / "train", digest="train"),
            "val": Artifact(path=shards / "val", digest="val"),
            "colours": Artifact(path=shards, digest="colours"),
            "record_every": 5,
            **changes,
        }
        (folder / "job.json").write_bytes(to_job_file(TrainJob(**values)))
        return folder / "job.json"

    return write


@pytest.fixture(scope="session")
def worker():
    """Return a function that starts the training worker on a job."""

    def start(job, without_prefect=False):
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

    return start


@pytest.fixture(scope="session")
def messages():
    """Return a function that parses the output of a worker."""
    return lambda said: [parse(line) for line in said.strip().splitlines()]


@pytest.fixture(scope="session")
def newest_checkpoint():
    """Return a function that names the newest checkpoint of a run."""
    return lambda folder: max((path.name for path in (folder / "work" / CHECKPOINTS).glob("*.pt")), default="")
