"""The real loop on a handful of images."""

import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count

import pytest
import torch

from base.errors import InputError
from base.progress import Progress, Silent
from model.network.alexnet import AlexNet
from model.network.config import Initial, NetworkConfig
from model.network.inputs import Colours
from model.training.checkpoint import Checkpoints
from model.training.config import TrainConfig
from model.training.draws import colour_factors, seed_dropout
from model.training.loop import StoppedError, Trainer
from model.training.records import as_table, by_epoch

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

    def epochs(self, epoch, start):
        yield self.epoch(epoch, start)
        yield from (self.epoch(number, 0) for number in count(epoch + 1))

    def epoch(self, epoch, start):
        self.begun.append((epoch, start))
        order = torch.randperm(24, generator=torch.Generator().manual_seed(epoch))
        for places in torch.arange(start, 24).split(self.batch_size) if start < 24 else ():
            if self.given == self.die_after:
                raise OSError("cannot read the images")
            self.given += 1
            yield self.images(order[places]), CLASSES[order[places]], places

    def validation(self):
        yield self.images(torch.arange(24))[:, None], CLASSES, torch.arange(24)

    def images(self, which):
        return (CLASSES[which] * 90 + 30).to(torch.uint8)[:, None, None, None].expand(-1, 64, 64, 3).contiguous()


class Heard(Progress):
    """Keeps all messages. Every report is due."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def due(self):
        return True

    def _write(self, message):
        self.messages.append(message)


def trainer(path, images, minutes=10.0, stop_asked=lambda: False, record_every=2, progress=None, **changes):
    config = TrainConfig(
        **{"epochs": 3, "learning_rate": 0.003, "schedule": "steps", "batch_size": images.batch_size, **changes}
    )
    run = Trainer(
        network=AlexNet(NETWORK).initialise(0, Initial(middle_std=0.03)),
        config=config,
        colours=COLOURS,
        num_images=24,
        checkpoints=Checkpoints(path / "checkpoints", minutes),
        stop_asked=stop_asked,
        record_every=record_every,
        progress=progress or Heard(),
    )
    run.images = images
    return run


def train(run):
    """Resume and train to the end, as the worker does."""
    run.resume()
    return run.run(run.images.epochs(run.state.epoch, run.state.images), run.images.validation)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def facts(records):
    """The fields of the records that do not depend on the clock."""
    return [(r.step, r.epoch, r.learning_rate, r.loss, r.train, r.val) for r in records]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    whole = trainer(tmp_path_factory.mktemp("whole"), Images())
    return whole, train(whole)


@pytest.mark.parametrize("batches", range(1, 9))
def test_a_run_that_broke_off_after_any_step_and_resumed_ends_bit_identical(tmp_path, unbroken, batches):
    whole, records = unbroken
    with pytest.raises(OSError, match="cannot read the images"):
        train(trainer(tmp_path, Images(die_after=batches), minutes=0))
    images = Images()
    resumed = trainer(tmp_path, images)
    again = train(resumed)
    # What an epoch ended with is saved before it is validated, so an epoch just finished is validated again.
    assert images.begun[0] == ((batches - 1) // 3, min(24, 10 * ((batches - 1) % 3 + 1)))
    assert same(whole.network, resumed.network)
    assert facts(again) == facts(records)


def test_a_checkpoint_follows_each_epoch_and_each_interval(tmp_path):
    saved = []

    class Noted(Checkpoints):
        def save(self, state, network, sgd):
            super().save(state, network, sgd)
            saved.append(state.images)

    for minutes, expected in ((1000, [24, 24, 24]), (0, [10, 20, 24, 24] * 3)):
        saved.clear()
        run = trainer(tmp_path, Images())
        run.checkpoints = Noted(tmp_path / str(minutes), minutes)
        train(run)
        assert saved == expected


def test_the_last_few_checkpoints_are_kept(tmp_path):
    train(trainer(tmp_path, Images(), minutes=0))
    assert [path.name for path in Checkpoints(tmp_path / "checkpoints").paths()] == [
        "0002-000000010.pt",
        "0002-000000020.pt",
        "0002-000000024.pt",
    ]


def test_asked_to_stop_it_saves_and_stops_and_can_resume(tmp_path, unbroken):
    whole, records = unbroken
    images = Images()
    with pytest.raises(StoppedError, match="asked to stop") as stopped:
        train(trainer(tmp_path, images, stop_asked=lambda: images.given == 5))
    assert re.match(r"in epoch 2 after 20 images, step 5, at learning rate .*; the last good", stopped.value.__notes__[0])
    resumed = trainer(tmp_path, Images())
    assert facts(train(resumed)) == facts(records)
    assert same(whole.network, resumed.network)


def test_asked_to_stop_while_validating_it_stops_and_validates_again(tmp_path, unbroken):
    whole, records = unbroken
    run = trainer(tmp_path, Images(), stop_asked=lambda: not run.network.training)
    with pytest.raises(StoppedError, match="while validating"):
        train(run)
    resumed = trainer(tmp_path, Images())
    assert facts(train(resumed)) == facts(records)
    assert same(whole.network, resumed.network)


def test_a_run_can_resume_with_another_batch_size(tmp_path):
    with pytest.raises(OSError, match="cannot read"):
        train(trainer(tmp_path, Images(die_after=2), minutes=0))
    images = Images(batch_size=2)
    records = train(trainer(tmp_path, images))
    assert images.begun == [(0, 20), (1, 0), (2, 0)]
    assert [record.train.num_images for record in by_epoch(records)] == [24, 24, 24]


def test_training_lowers_the_loss_and_counts_every_image_once(tmp_path):
    records = by_epoch(train(trainer(tmp_path, Images(), epochs=12, learning_rate=0.01)))
    assert records[-1].loss < 0.9 * records[0].loss
    assert records[-1].val.top1_wrong < records[0].val.top1_wrong
    assert all(record.train.num_images == 24 for record in records)
    assert records[-1].val.num_images == 24


def test_in_bfloat16_it_learns_nearly_the_same_and_keeps_its_weights_in_float32(tmp_path, unbroken):
    whole, _ = unbroken
    rounded = trainer(tmp_path, Images(), precision="bf16")
    train(rounded)
    assert not same(whole.network, rounded.network)
    for name, value in rounded.network.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, whole.network.state_dict()[name], rtol=0.1, atol=0.02, msg=name)


def test_records_follow_each_interval_and_each_epoch(tmp_path):
    frame = as_table(train(trainer(tmp_path, Images(), epochs=2))).to_pandas()
    assert list(frame["step"]) == [2, 3, 5, 6]
    assert list(frame["epoch"]) == [1, 1, 2, 2]
    assert list(frame["train_num_images"]) == [20, 4, 20, 4]
    assert list(frame["val_num_images"].dropna()) == [24, 24]
    assert (frame["wait_seconds"] <= frame["seconds"]).all()
    assert (frame["images_per_second"] > 0).all()


def test_every_report_counts_the_images_of_the_whole_run_and_names_the_share_of_waiting(tmp_path):
    run = trainer(tmp_path, Images(), record_every=1)
    train(run)
    start, *reports = run.progress.messages
    assert (start.done, start.text) == (None, "starting: 3 epochs of 24 images")
    assert [report.done for report in reports] == [10, 20, 24, 34, 44, 48, 58, 68, 72], "an epoch is done after its validation"
    assert {(report.total, report.unit) for report in reports} == {(72, "images")}
    assert all(re.search(r"^epoch \d/3  loss \d.*  \d+% waiting for images$", report.text) for report in reports)
    assert ["  val " in report.text for report in reports] == [False, False, *[True] * 7], "the last one measured stays"
    assert reports[-1].values == {"loss": pytest.approx(by_epoch(run.state.records)[-1].loss)}


def test_on_a_gpu_the_loss_is_fetched_only_when_a_report_or_a_record_is_due(tmp_path):
    run, fetched = trainer(tmp_path, Images(), record_every=2, progress=Silent(), epochs=2), []
    read, run.device = run._read, torch.device("meta")  # not the CPU, where fetching costs nothing
    run._autocast = nullcontext
    run._read = lambda: fetched.append(len(run.unread)) or read()
    run.progress.due = lambda: run.state.step == 1
    train(run)
    assert [steps for steps in fetched if steps] == [1, 1, 1, 2, 1], "first report, record, end, record, end"


def test_validation_is_measured_every_so_often_and_at_the_end(tmp_path):
    records = by_epoch(train(trainer(tmp_path, Images(), epochs=5, validate_every=2)))
    assert [record.val is not None for record in records] == [False, True, False, True, True]
    assert list(as_table(records).to_pandas()["val_num_images"].dropna()) == [24, 24, 24]


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint_named(tmp_path):
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in step [23]; lower the learning rate") as error:
        train(trainer(tmp_path, Images(), minutes=0, learning_rate=1e30))
    note = r"in epoch 1 after 2[04] images, step [23], at learning rate 1e\+30; the last good checkpoint is .*/0000-0+[12]0.pt"
    assert re.fullmatch(note, error.value.__notes__[0])


def test_weights_that_are_not_finite_are_neither_saved_nor_validated(tmp_path):
    images = Images(batch_size=24)  # one step an epoch: no loss tells of the weights that it leaves
    with pytest.raises(InputError, match="weights are not finite after step 1; lower the learning rate") as error:
        train(trainer(tmp_path, images, learning_rate=1e38, bias_rate=1e3))
    assert error.value.__notes__[0].endswith("there is no checkpoint yet")


def test_images_that_cannot_be_read_stop_with_the_place_named(tmp_path):
    with pytest.raises(OSError, match="cannot read the images") as error:
        train(trainer(tmp_path, Images(die_after=1)))
    assert error.value.__notes__ == ["in epoch 1 after 10 images, step 1, at learning rate 0.003; there is no checkpoint yet"]


def with_one_bit_flipped(whole):
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: b"nonsense", with_one_bit_flipped])
def test_if_the_newest_checkpoint_is_damaged_the_one_before_it_is_used(tmp_path, unbroken, damage):
    whole, records = unbroken
    with pytest.raises(OSError, match="cannot read"):
        train(trainer(tmp_path, Images(die_after=5), minutes=0))
    paths = Checkpoints(tmp_path / "checkpoints").paths()
    paths[-1].write_bytes(damage(paths[-1].read_bytes()))
    images = Images()
    resumed = trainer(tmp_path, images)
    assert facts(train(resumed)) == facts(records)
    assert same(whole.network, resumed.network)
    assert images.begun[0] == (1, 10)
    said = [message.text for message in resumed.progress.messages if message.done is None]
    assert re.fullmatch(rf"cannot resume from the checkpoint {paths[-1]} \(\w+\); trying the one before it", said[0])
    assert said[1:] == ["resumed after epoch 1/3 and 10 images"]


def test_if_all_checkpoints_are_damaged_the_error_tells_what_to_do(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "0000-000000010.pt").write_bytes(b"nonsense")
    with pytest.raises(
        InputError, match="cannot resume from any checkpoint in .*/checkpoints; delete it to train from the start"
    ):
        train(trainer(tmp_path, Images()))


def test_another_seed_draws_other_dropout(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = trainer(tmp_path / "a", Images(), seed=1), trainer(tmp_path / "b", Images(), seed=2)
    train(first)
    train(second)
    assert not same(first.network, second.network)


def test_an_image_with_colour_noise_is_shrunk_if_the_recipe_says_so(tmp_path):
    images, places = Images().images(torch.arange(3)), torch.tensor([4, 0, 9])
    factors = torch.zeros(24, 3)
    factors[0], factors[9] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 1])
    plain, noisy, shrunk = (trainer(tmp_path, Images(), shrink_with_noise=shrink) for shrink in (True, False, True))
    noisy.factors = shrunk.factors = factors
    plain, noisy, shrunk = (run._inputs(images, places) for run in (plain, noisy, shrunk))
    assert torch.equal(noisy[0], plain[0])
    torch.testing.assert_close((noisy - plain)[1:, :, 5, 5], torch.tensor([[100 / 255, 0, 0], [0, 400 / 255, 3600 / 255]]))
    torch.testing.assert_close(shrunk, noisy / 1.1)


def test_an_images_noise_follows_from_its_place_in_the_epoch():
    config = TrainConfig()
    first = colour_factors(config, 0, 24)
    assert first.shape == (24, 3)
    assert torch.equal(first, colour_factors(config, 0, 24))
    assert not torch.equal(first, colour_factors(config, 1, 24))
    assert not torch.equal(first, colour_factors(TrainConfig(seed=1), 0, 24))
    assert first.std() == pytest.approx(0.1, rel=0.2)
    assert colour_factors(TrainConfig(colour_noise_until=0.0), 0, 24) is None


def test_a_step_needs_neither_a_loader_nor_a_folder():
    config = TrainConfig(batch_size=10, learning_rate=0.003)
    by_hand, in_one = (Trainer(AlexNet(NETWORK).initialise(0), config, COLOURS, num_images=24) for _ in range(2))
    before = by_hand.network.fc8.weight.clone()
    batches = list(Images().epoch(0, 0))
    for batch in batches:
        by_hand.step(*batch)
    in_one.train_epoch(batches)
    assert not torch.equal(by_hand.network.fc8.weight, before)
    assert same(by_hand.network, in_one.network)
    assert in_one.state.sums.train.num_images == 24
    assert in_one.validate(Images().validation()).num_images == 24
    assert in_one.network.training


def test_dropout_follows_from_seed_epoch_first_place_and_device():
    def mask(seed, epoch, place, devices=1):
        seed_dropout([torch.device("cpu")] * devices, seed, epoch, place)  # the last device's seed stays
        return torch.rand(8).tolist()

    assert mask(3, 1, 5) == mask(3, 1, 5)
    assert len({tuple(mask(*place)) for place in [(3, 1, 5), (2, 1, 5), (3, 2, 5), (3, 1, 6), (3, 1, 5, 2)]}) == 5


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda whole: whole[:-1], "the batches of an epoch held 20 images, expected 24"),
        (lambda whole: whole + whole[-1:], "the batches of an epoch held more than 24 images"),
        (lambda whole: [*whole[:-1], [part[:3] for part in whole[-1]]], "epoch 1 counted 23 images, expected 24"),
    ],
)
def test_an_epoch_that_does_not_hold_every_image_once_is_an_error(tmp_path, batches, message):
    run = trainer(tmp_path, Images())
    with pytest.raises(RuntimeError, match=message):
        run.run(iter([batches(list(Images().epoch(0, 0)))]), Images().validation)


def test_a_plateau_that_ends_training_early_is_said(tmp_path):
    run = trainer(tmp_path, Images(), epochs=30, schedule="plateau", patience_epochs=1, num_drops=0, learning_rate=1e-9)
    records = train(run)
    assert records[-1].epoch == 2
    *_, report, end = run.progress.messages
    assert (report.done, report.total) == (48, 48)
    assert end.text == "no better validation error: training ends after epoch 2/30"
