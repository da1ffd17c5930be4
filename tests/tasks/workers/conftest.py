"""Workers as processes, and tiny shards and networks for them."""

import json
import os
import subprocess
import sys

import pytest

from base.progress import parse
from data_shards.datasets.synthetic import Synthetic
from data_shards.listing import write_lists
from data_shards.planning import ShardConfig, plan_shards
from data_shards.shard_set import ShardSet
from data_shards.writing import write_shard
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from model.network.weights import WeightsInfo, save_weights
from model.training.config import TrainConfig
from tasks.code import ROOT
from tasks.job import Artifact, Weights, to_job_file
from tasks.jobs.colours import COLOURS as COLOURS_FILE
from tasks.jobs.embed import EmbedJob
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

    def start(job, without_prefect=False, share="0/1"):
        command = ["-m", "tasks.workers.train", str(job), share]
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


IN_TURN = """
import json, runpy, sys
from base.errors import InputError, sentence_of
from tasks.workers import entry
entry.guarded = lambda work: work()
for commands in json.loads(sys.argv[1]):
    said = None
    try:
        for worker, *arguments in commands:
            sys.argv[1:] = arguments
            sys.modules.pop(f"tasks.workers.{worker}", None)  # another worker may have imported it
            runpy.run_module(f"tasks.workers.{worker}", run_name="__main__")
    except InputError as error:
        said = sentence_of(error)
    print("ended:", json.dumps(said), flush=True)
"""

KILLED = """
import os, pathlib, runpy, signal, sys
worker, before, left, *sys.argv[1:] = sys.argv[1:]
left, rename = int(left), pathlib.Path.rename
def die(path, target):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
pathlib.Path.rename = die
exec(before)
runpy.run_module(f"tasks.workers.{worker}", run_name="__main__")
"""


def python(code, *arguments):
    """Run a program in a process of its own; return the exit code and what it wrote."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="session")
def run_in_turn():
    """Return a function that runs lists of commands in one process, which is soon done.

    It returns why each list was refused, or None, and all that was said.
    """

    def run(*cases):
        commands = json.dumps([[[str(word) for word in command] for command in case] for case in cases])
        _, said = python(IN_TURN, commands)
        ends = [json.loads(line.removeprefix("ended: ")) for line in said.splitlines() if line.startswith("ended: ")]
        assert len(ends) == len(cases), said
        return ends, said

    return run


@pytest.fixture(scope="session")
def in_turn(run_in_turn):
    """Return a function that runs lists of commands in one process and returns why each was refused."""
    return lambda *cases: run_in_turn(*cases)[0]


@pytest.fixture(scope="session")
def kill_at():
    """Return a function that runs a worker which dies by SIGKILL when it is about to finish its n-th file."""

    def run(worker, number, *arguments, before=""):
        code, said = python(KILLED, worker, before, str(number), *map(str, arguments))
        assert code == -9, said
        return said

    return run


@pytest.fixture(scope="session")
def networks(shards, tmp_path_factory):
    """Return two weights files with the classes of the shards."""
    directory, wnids = tmp_path_factory.mktemp("networks"), ShardSet.open(shards / "train").wnids
    paths = [directory / f"{seed}.safetensors" for seed in range(2)]
    for seed, path in enumerate(paths):
        save_weights(AlexNet(NETWORK).initialise(seed), WeightsInfo(network=NETWORK, colours=COLOURS, wnids=wnids), path)
    return paths


@pytest.fixture(scope="session")
def write_job():
    """Return a function that writes a job into a new folder and returns its file."""

    def write(folder, job):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_bytes(to_job_file(job))
        return folder / "job.json"

    return write


@pytest.fixture(scope="session")
def embed_job(shards, write_job):
    """Return a function that writes the job of embedding a split: by a network, or as pixels."""

    def write(folder, weights=None, split="train", **changes):
        made = Artifact(path=shards / split, digest=split, counts={"shards": 3 if split == "train" else 1})
        values = {"shards": made, "dataset": "synthetic", "split": split, "crop": None if weights else 64, **changes}
        network = None if weights is None else Weights(path=weights, digest=weights.stem)
        return write_job(folder, EmbedJob(weights=network, **values))

    return write


@pytest.fixture(scope="session")
def vectors(embed_job, networks, in_turn, tmp_path_factory):
    """Return the artefacts of train and val: features of the first network, and pixels."""
    root = tmp_path_factory.mktemp("vectors")
    kinds = {"features": networks[0], "pixels": None}
    jobs = {split: [embed_job(root / f"{kind}-{split}", w, split) for kind, w in kinds.items()] for split in ("train", "val")}
    assert in_turn(*([(stage, *files) for stage in ("embed", "embedded")] for files in jobs.values())) == [None] * 2
    return {path.name: Artifact(path=path, digest=path.name) for path in root.iterdir()}
