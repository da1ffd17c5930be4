"""The fields of a job: which of them make its key."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data_shards.datasets.folder import FolderSource
from data_shards.datasets.synthetic import SyntheticSource
from model.network.config import NetworkConfig
from model.training.config import TrainConfig
from tasks.artifacts import key_of
from tasks.job import Artifact, External, Share, Weights, to_job_file
from tasks.jobs.duplicates import DuplicatesJob
from tasks.jobs.predict import PredictJob
from tasks.jobs.shard import ShardJob
from tasks.jobs.train import TrainJob
from tasks.jobs.verify import VerifyJob

TRAIN, VAL, COLOURS = (Artifact(path=Path("/made", name), digest=name) for name in ("train", "val", "colours"))
RUN = TrainJob(name="run", train=TRAIN, val=VAL, colours=COLOURS, network=NetworkConfig(), training=TrainConfig())
SHARDS = ShardJob(
    dataset=External(values={"name": "synthetic"}),
    source=SyntheticSource(),
    dataset_name="synthetic",
    split="val",
    unpack_dir=Path("/sources"),
)
PREDICTIONS = PredictJob(weights=Weights(path=Path("/w"), digest="w"), shards=VAL, dataset="synthetic", split="val")


def test_inputs_are_told_by_their_type_and_named_by_their_digests():
    assert RUN.inputs == {"train": "train", "val": "val", "colours": "colours"}
    weights = Weights(path=Path("/w"), digest="w")
    assert RUN.model_copy(update={"initial": weights}).inputs["initial"] == "w"
    assert DuplicatesJob(sets={"a": TRAIN, "b": VAL}).inputs == {"sets": {"a": "train", "b": "val"}}
    assert SHARDS.inputs == {"dataset": {"name": "synthetic"}}


def test_settings_are_the_rest_without_resources():
    assert set(RUN.settings) == {"network", "training", "arithmetic"}
    assert SHARDS.settings == {"storage": "square256", "samples_per_shard": 1000, "seed": 0, "check": True}
    assert PREDICTIONS.settings == {"views": 10, "device": "cpu"}
    assert set(VerifyJob(shards=VAL, dataset="a", split="val", decode=False, at=datetime.now(UTC)).settings) == {"decode", "at"}


@pytest.mark.parametrize(
    ("job", "changes"),
    [
        (RUN, {"name": "other"}),
        (RUN, {"recipe": "code2012"}),
        (RUN, {"record_every": 1}),
        (RUN, {"train": TRAIN.model_copy(update={"path": Path("/elsewhere")})}),
        (RUN, {"devices": ("cuda:1",), "num_threads": 3}),
        (SHARDS, {"bad_images": "report"}),
        (SHARDS, {"unpack_dir": Path("/other")}),
        (PREDICTIONS, {"num_threads": 7, "batch_size": 1, "devices": ("cpu", "cpu")}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else type(value).__name__,
)
def test_resources_change_no_key(job, changes):
    if changes.get("devices") == ("cuda:1",):
        job = job.model_copy(update={"devices": ("cuda:0",), "num_threads": 1})
    assert key_of(job.model_copy(update=changes)).digest == key_of(job).digest


@pytest.mark.parametrize(
    ("job", "changes"),
    [
        (RUN, {"training": TrainConfig(seed=1)}),
        (RUN, {"network": NetworkConfig(width=0.5)}),
        (RUN, {"layout": "one-piece"}),
        (RUN, {"num_threads": 2}),
        (RUN, {"devices": ("cuda:0",)}),
        (RUN, {"train": TRAIN.model_copy(update={"digest": "other"})}),
        (RUN, {"initial": Weights(path=Path("/w"), digest="w")}),
        (SHARDS, {"storage": "square64"}),
        (SHARDS, {"check": False}),
        (SHARDS, {"source": FolderSource()}),
        (PREDICTIONS, {"views": 1}),
        (PREDICTIONS, {"device": "cuda"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else type(value).__name__,
)
def test_inputs_settings_and_code_change_the_key(job, changes):
    assert key_of(job.model_copy(update=changes)).digest != key_of(job).digest


@pytest.mark.parametrize("job", [RUN, SHARDS, PREDICTIONS], ids=lambda job: type(job).__name__)
def test_a_job_file_gives_the_job_back(job):
    text = to_job_file(job)
    assert "arithmetic" not in json.loads(text)
    again = type(job).model_validate_json(text)
    assert again == job
    assert key_of(again) == key_of(job)


def test_shares_divide_the_units_without_rest():
    units = list(range(23))
    shares = [Share(number, 4).of(units) for number in range(4)]
    assert sorted(unit for share in shares for unit in share) == units
    assert Share().of(units) == units
