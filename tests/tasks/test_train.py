"""What makes a training another one."""

from pathlib import Path

import pytest

from model.network.config import NetworkConfig
from model.training.config import TrainConfig
from tasks.artifacts import Artifact
from tasks.compute import Compute
from tasks.train import Training, TrainingSet, _step

SET = Artifact(path=Path("shards"), digest="0", counts={})
TRAINING = Training(
    name="cnn", network=NetworkConfig(), config=TrainConfig(), data=TrainingSet(train=SET, val=SET, colours=SET)
)


@pytest.mark.parametrize(("devices", "is_the_same"), [(("cuda:0",), True), (("cuda:0", "cuda:1"), True), (("cpu",), False)])
def test_threads_make_it_another_one_only_where_they_compute(devices: tuple[str, ...], is_the_same: bool) -> None:
    paths = {_step(TRAINING, Compute(devices=devices, num_threads=n, at_once=1), Path("w")).path for n in (2, 16)}
    assert (len(paths) == 1) == is_the_same
