"""The real loop on a handful of images."""

import re
from dataclasses import dataclass, field

import pytest
import torch

from model.network.alexnet import AlexNet
from model.network.config import Initial, NetworkConfig
from model.network.inputs import Colours
from model.training.checkpoint import Checkpoints
from model.training.config import TrainConfig
from model.training.loop import Data, Saving, StoppedError, Trainer
from model.training.progress import Progress
from model.training.records import as_frame, by_epoch

NETWORK = NetworkConfig(num_classes=3, crop=64, width=1 / 12)
COLOURS = Colours(mean=(127, 127, 127), deviations=(10, 20, 60), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)
CLASSES = torch.arange(24) % 3


@dataclass
class Images:
    """Twenty-four flat images in three brightnesses, in an order that depends on the epoch."""

    batch_size: int = 10
    die_after: int | None = None
    """Batches."""
    begun: list[tuple[int, int]] = field(default_factory=list)
    given: int = 0

    def spans(self, start):
        return [range(first, min(first + self.batch_size, 24)) for first in range(start, 24, self.batch_size)]

    def training_epochs(self, epoch, start):
        yield self.training_epoch(epoch, start)
        yield from self.training_epochs(epoch + 1, 0)

    def training_epoch(self, epoch, start):
        self.begun.append((epoch, start))
        order = torch.randperm(24, generator=torch.Generator().manual_seed(epoch))
        for span in self.spans(start):
            if self.given == self.die_after:
                raise OSError("cannot read the images")
            self.given += 1
            part = order[span.start : span.stop]
            yield self.images(part), CLASSES[part]

    def validation(self):
        yield self.images(torch.arange(24))[:, None], CLASSES

    def images(self, which):
        return (CLASSES[which] * 90 + 30).to(torch.uint8)[:, None, None, None].expand(-1, 64, 64, 3).contiguous()


def trainer(path, images, minutes=10.0, stop_asked=lambda: False, record_every=2, **changes):
    config = TrainConfig(
        **{"epochs": 3, "learning_rate": 0.003, "schedule": "steps", "batch_size": images.batch_size, **changes}
    )
    return Trainer(
        network=AlexNet(NETWORK).initialise(0, Initial(middle_std=0.03)),
        config=config,
        colours=COLOURS,
        data=Data(24, images.spans, images.training_epochs, images.validation),
        fine_tune=False,
        saving=Saving(Checkpoints(path / "checkpoints"), minutes, stop_asked),
        progress=Progress(config.epochs, 24, say=lambda _: None),
        record_every=record_every,
    )


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def facts(records):
    """What of the records does not depend on the clock."""
    return [(r.step, r.epoch, r.learning_rate, r.loss, r.train, r.val) for r in records]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    whole = trainer(tmp_path_factory.mktemp("whole"), Images())
    return whole, whole.run()


@pytest.mark.parametrize("batches", range(1, 9))
def test_a_run_that_broke_off_after_any_step_and_was_resumed_ends_bit_identical(tmp_path, unbroken, batches):
    whole, records = unbroken
    with pytest.raises(OSError, match="cannot read the images"):
        trainer(tmp_path, Images(die_after=batches), minutes=0).run()
    images = Images()
    resumed = trainer(tmp_path, images)
    again = resumed.run()
    # What an epoch ended with is saved before it is validated, so an epoch just finished is validated again.
    assert images.begun[0] == ((batches - 1) // 3, min(24, 10 * ((batches - 1) % 3 + 1)))
    assert same(whole.network, resumed.network)
    assert facts(again) == facts(records)


def test_checkpoints_by_time_are_apart_and_by_epoch_are_not(tmp_path):
    saved = []
    run = trainer(tmp_path, Images())
    run.saving = Saving(Checkpoints(tmp_path / "c"), minutes=1000, saved=lambda records: saved.append(run.state.images))
    run.run()
    assert saved == [24, 24, 24]
    run = trainer(tmp_path, Images())
    run.saving = Saving(Checkpoints(tmp_path / "d"), minutes=0, saved=lambda records: saved.append(run.state.images))
    saved.clear()
    run.run()
    assert saved == [10, 20, 24, 24] * 3


def test_the_last_few_checkpoints_are_kept(tmp_path):
    trainer(tmp_path, Images(), minutes=0).run()
    assert [path.name for path in Checkpoints(tmp_path / "checkpoints").paths()] == [
        "0002-000000010.pt",
        "0002-000000020.pt",
        "0002-000000024.pt",
    ]


def test_asked_to_stop_it_saves_leaves_and_goes_on_from_there(tmp_path, unbroken):
    whole, records = unbroken
    images = Images()
    with pytest.raises(StoppedError, match="asked to stop") as stopped:
        trainer(tmp_path, images, stop_asked=lambda: images.given == 5).run()
    assert re.match(r"in epoch 2 after 20 images, step 5, at learning rate .*; the last good", stopped.value.__notes__[0])
    resumed = trainer(tmp_path, Images())
    assert facts(resumed.run()) == facts(records)
    assert same(whole.network, resumed.network)


def test_asked_to_stop_while_validating_it_leaves_and_validates_again(tmp_path, unbroken):
    whole, records = unbroken
    run = trainer(tmp_path, Images(), stop_asked=lambda: not run.network.training)
    with pytest.raises(StoppedError, match="while validating"):
        run.run()
    resumed = trainer(tmp_path, Images())
    assert facts(resumed.run()) == facts(records)
    assert same(whole.network, resumed.network)


def test_a_run_may_go_on_with_another_batch_size(tmp_path):
    with pytest.raises(OSError, match="cannot read"):
        trainer(tmp_path, Images(die_after=2), minutes=0).run()
    images = Images(batch_size=2)
    records = trainer(tmp_path, images).run()
    assert images.begun == [(0, 20), (1, 0), (2, 0)]
    assert [record.train.num_images for record in by_epoch(records)] == [24, 24, 24]


def test_training_lowers_the_loss_and_counts_every_image_once(tmp_path):
    records = by_epoch(trainer(tmp_path, Images(), epochs=12, learning_rate=0.01).run())
    assert records[-1].loss < 0.9 * records[0].loss
    assert records[-1].val.top1_wrong < records[0].val.top1_wrong
    assert all(record.train.num_images == 24 for record in records)
    assert records[-1].val.num_images == 24


def test_in_bfloat16_it_learns_nearly_the_same_and_keeps_its_weights_in_float32(tmp_path, unbroken):
    whole, _ = unbroken
    rounded = trainer(tmp_path, Images(), precision="bf16")
    rounded.run()
    assert not same(whole.network, rounded.network)
    for name, value in rounded.network.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, whole.network.state_dict()[name], rtol=0.1, atol=0.02, msg=name)


def test_there_is_a_record_every_so_many_steps_and_at_the_end_of_an_epoch(tmp_path):
    frame = as_frame(trainer(tmp_path, Images(), epochs=2).run())
    assert list(frame["step"]) == [2, 3, 5, 6]
    assert list(frame["epoch"]) == [1, 1, 2, 2]
    assert list(frame["train_num_images"]) == [20, 4, 20, 4]
    assert list(frame["val_num_images"].dropna()) == [24, 24]
    assert (frame["wait_seconds"] <= frame["seconds"]).all()
    assert (frame["images_per_second"] > 0).all()


def test_every_line_of_a_run_says_the_share_of_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr("model.training.progress.SECONDS_BETWEEN_LINES", 0.0)
    run, lines = trainer(tmp_path, Images(), record_every=1), []
    run.progress.say = lines.append
    run.run()
    assert lines.pop(0) == "  0%  starting: 3 epochs of 24 images"
    assert len(lines) == 3 * 4, "a line a step and one an epoch"
    assert all(re.search(r"  \d+% waiting for images  ", line) for line in lines)


def test_validation_is_measured_every_so_often_and_at_the_end(tmp_path):
    records = by_epoch(trainer(tmp_path, Images(), epochs=5, validate_every=2).run())
    assert [record.val is not None for record in records] == [False, True, False, True, True]
    assert list(as_frame(records)["val_num_images"].dropna()) == [24, 24, 24]


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint_named(tmp_path):
    with pytest.raises(FloatingPointError, match=r"the loss became (nan|inf) in step [23]; lower the learning rate") as error:
        trainer(tmp_path, Images(), minutes=0, learning_rate=1e30).run()
    note = r"in epoch 1 after 2[04] images, step [23], at learning rate 1e\+30; the last good checkpoint is .*/0000-0+[12]0.pt"
    assert re.fullmatch(note, error.value.__notes__[0])


def test_weights_that_are_not_finite_are_neither_saved_nor_validated(tmp_path):
    images = Images(batch_size=24)  # one step an epoch: no loss tells of the weights that it leaves
    with pytest.raises(FloatingPointError, match="weights are not finite after step 1; lower the learning rate") as error:
        trainer(tmp_path, images, learning_rate=1e38, bias_rate=1e3).run()
    assert error.value.__notes__[0].endswith("there is no checkpoint yet")


def test_images_that_cannot_be_read_stop_with_the_place_named(tmp_path):
    with pytest.raises(OSError, match="cannot read the images") as error:
        trainer(tmp_path, Images(die_after=1)).run()
    assert error.value.__notes__ == ["in epoch 1 after 10 images, step 1, at learning rate 0.003; there is no checkpoint yet"]


def with_one_bit_flipped(whole):
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: b"nonsense", with_one_bit_flipped])
def test_where_the_newest_checkpoint_is_damaged_the_one_before_is_taken(tmp_path, unbroken, damage):
    whole, records = unbroken
    with pytest.raises(OSError, match="cannot read"):
        trainer(tmp_path, Images(die_after=5), minutes=0).run()
    paths = Checkpoints(tmp_path / "checkpoints").paths()
    paths[-1].write_bytes(damage(paths[-1].read_bytes()))
    said, images = [], Images()
    resumed = trainer(tmp_path, images)
    resumed.progress.say = said.append
    assert facts(resumed.run()) == facts(records)
    assert same(whole.network, resumed.network)
    assert images.begun[0] == (1, 10)
    assert re.fullmatch(rf"the checkpoint {paths[-1]} cannot be resumed \(\w+\); trying the one before", said[0])


def test_where_all_are_damaged_the_way_out_is_said(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "0000-000000010.pt").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no checkpoint in .*/checkpoints can be resumed; delete it to train from the start"):
        trainer(tmp_path, Images()).run()


def test_another_seed_draws_other_dropout(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = trainer(tmp_path / "a", Images(), seed=1), trainer(tmp_path / "b", Images(), seed=2)
    first.run()
    second.run()
    assert not same(first.network, second.network)


def test_an_image_with_colour_noise_is_shrunk_where_the_recipe_says_so(tmp_path):
    images, factors = Images().images(torch.arange(3)), torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 1]])
    plain, noisy, shrunk = (
        trainer(tmp_path, Images(), shrink_with_noise=shrink)._inputs(images, given)
        for shrink, given in ((True, None), (False, factors), (True, factors))
    )
    assert torch.equal(noisy[0], plain[0])
    torch.testing.assert_close((noisy - plain)[1:, :, 5, 5], torch.tensor([[100 / 255, 0, 0], [0, 400 / 255, 3600 / 255]]))
    torch.testing.assert_close(shrunk, noisy / 1.1)


def test_an_images_noise_follows_from_its_place_in_the_epoch(tmp_path):
    run = trainer(tmp_path, Images())
    first = run._colour_factors()
    assert torch.equal(first, run._colour_factors())
    run.state.epoch = 1
    assert not torch.equal(first, run._colour_factors())
    assert first.std() == pytest.approx(0.1, rel=0.2)
    assert trainer(tmp_path, Images(), colour_noise_until=0.0)._colour_factors() is None
