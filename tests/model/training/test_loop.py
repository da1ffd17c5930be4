"""The real loop on a handful of images."""

from dataclasses import dataclass, field

import pytest
import torch

from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours
from model.training.checkpoint import load_checkpoint
from model.training.config import TrainConfig
from model.training.loop import Data, Trainer
from model.training.progress import Progress
from model.training.records import as_frame
from model.training.sgd import make_sgd

NETWORK = NetworkConfig(num_classes=3, crop=64, width=1 / 12)
COLOURS = Colours(mean=(127, 127, 127), deviations=(10, 20, 60), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
CLASSES = torch.arange(24) % 3


@dataclass
class Images:
    """Twenty-four flat images in three brightnesses, in an order that depends on the epoch."""

    die_in_epoch: int | None = None
    epochs: list[int] = field(default_factory=list)

    def training_epoch(self, epoch):
        self.epochs.append(epoch)
        order = torch.randperm(24, generator=torch.Generator().manual_seed(epoch))
        for n, part in enumerate(order.split(10)):
            if epoch == self.die_in_epoch and n == 1:
                raise KeyboardInterrupt
            yield self.images(part), CLASSES[part]

    def validation(self):
        yield self.images(torch.arange(24))[:, None], CLASSES

    def images(self, which):
        return (CLASSES[which] * 90 + 30).to(torch.uint8)[:, None, None, None].expand(-1, 64, 64, 3).contiguous()


def trainer(path, images, **changes):
    config = TrainConfig(**{"epochs": 3, "learning_rate": 0.003, "schedule": "steps", **changes})
    data = Data(24, images.training_epoch, images.validation)
    network = AlexNet(NETWORK).initialise(0)
    return Trainer(
        network, config, COLOURS, data, False, path / "checkpoint.pt", Progress(config.epochs, 24, say=lambda _: None)
    )


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_run_that_was_cut_off_and_resumed_ends_bit_identical(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = trainer(tmp_path / "whole", Images())
    records = whole.run()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "broken", Images(die_in_epoch=1)).run()
    images = Images()
    resumed = trainer(tmp_path / "broken", images)
    again = resumed.run()
    assert images.epochs == [1, 2]
    assert same(whole.network, resumed.network)
    assert [(r.loss, r.train, r.val) for r in again] == [(r.loss, r.train, r.val) for r in records]


def test_training_lowers_the_loss_and_counts_every_image_once(tmp_path):
    records = trainer(tmp_path, Images(), epochs=12, learning_rate=0.01).run()
    assert records[-1].loss < 0.9 * records[0].loss
    assert records[-1].val.top1_wrong < records[0].val.top1_wrong
    assert all(record.train.num_images == 24 for record in records)
    assert records[-1].val.num_images == 24


def test_validation_is_measured_every_so_often_and_at_the_end(tmp_path):
    records = trainer(tmp_path, Images(), epochs=5, validate_every=2).run()
    assert [record.val is not None for record in records] == [False, True, False, True, True]
    frame = as_frame(records)
    assert list(frame["val_num_images"].dropna()) == [24, 24, 24]


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint_named(tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"the loss became (nan|inf) in epoch \d+ after \d+ images at learning rate 1e\+30"
    ):
        trainer(tmp_path, Images(), learning_rate=1e30).run()


@pytest.mark.parametrize("damage", [b"", b"nonsense"])
def test_a_damaged_checkpoint_is_refused_with_a_way_out(tmp_path, damage):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage)
    network = AlexNet(NETWORK)
    with pytest.raises(ValueError, match="cannot be resumed .* delete it to train from the start"):
        load_checkpoint(path, network, make_sgd(network, TrainConfig(), False))


def test_another_seed_draws_other_dropout(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = trainer(tmp_path / "a", Images(), seed=1), trainer(tmp_path / "b", Images(), seed=2)
    first.run()
    second.run()
    assert not same(first.network, second.network)
