"""Softmax outputs of ten views, averaged: the same bits in any batches."""

from functools import partial

import pytest
import torch

from model.evaluation.predict import VIEWS_PER_PASS, Predictor, cut, pass_sizes, predict
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours, subtract_mean

COLOURS = Colours(mean=(127, 127, 127), deviations=(10, 20, 60), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)


def predictor(seed, columns=None):
    network = AlexNet(NetworkConfig(num_classes=5, crop=64, width=1 / 12)).initialise(seed)
    return Predictor(network, partial(subtract_mean, colours=COLOURS), columns)


def views(num_images, num_views=10):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_images, num_views, 64, 64, 3), dtype=torch.uint8, generator=generator)


def predict_all(predictors, images, batch_size, at_once=1):
    """Predict images that arrive in batches of this size, as one shard."""
    batches = zip(images.split(batch_size), torch.arange(len(images)).split(batch_size), strict=True)
    passes = (part for part, _ in cut(batches, pass_sizes([len(images)], images.shape[1])))
    parts = list(predict(predictors, passes, at_once))
    return [torch.cat([part[n] for part in parts]) for n in range(len(predictors))]


@pytest.mark.parametrize(
    ("shards", "num_views", "sizes"),
    [
        ([20], 10, [10, 10]),
        ([25, 10, 3], 10, [10, 10, 5, 10, 3]),
        ([250, 1], 1, [100, 100, 50, 1]),
        ([], 10, []),
    ],
)
def test_no_pass_crosses_the_end_of_a_shard(shards, num_views, sizes):
    assert pass_sizes(shards, num_views) == sizes


@pytest.mark.parametrize("batch_size", [1, 4, 7, 11, 30])
def test_a_stream_is_cut_without_losing_or_repeating_an_image(batch_size):
    images = torch.arange(11)
    batches = zip(*((images + n).split(batch_size) for n in (0, 100, 200)), strict=True)
    pieces = list(cut(batches, [4, 4, 1, 2]))
    assert [piece.tolist() for piece, _, _ in pieces] == [[0, 1, 2, 3], [4, 5, 6, 7], [8], [9, 10]]
    for n in (1, 2):
        assert torch.cat([piece[n] for piece in pieces]).tolist() == list(range(100 * n, 100 * n + 11))


def test_a_stream_that_holds_more_than_expected_is_an_error():
    with pytest.raises(RuntimeError, match="more images than"):
        list(cut([(torch.arange(3), torch.arange(3))], [2]))


def test_probabilities_are_averaged_not_logits():
    one, images = predictor(0), views(3)
    found = predict_all([one], images, 3)[0]
    with torch.inference_mode():
        by_view = [one.network(subtract_mean(images[:, view], COLOURS)).softmax(dim=1) for view in range(10)]
    torch.testing.assert_close(found, torch.stack(by_view).mean(dim=0), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("num_views", [1, 10])
def test_neither_batches_nor_threads_change_a_bit(num_views):
    images = views(130, num_views)
    whole = predict_all([predictor(0)], images, 130)[0]
    for batch_size, at_once in ((1, 1), (7, 2), (64, 3)):
        assert torch.equal(predict_all([predictor(0)], images, batch_size, at_once)[0], whole)


def test_an_image_has_the_same_bits_alone_and_among_others():
    """The images that fill up a pass do not change the others."""
    images = views(VIEWS_PER_PASS // 10)
    together = predict_all([predictor(0)], images, 10)[0]
    for number in (0, 4, 9):
        assert torch.equal(predict_all([predictor(0)], images[number : number + 1], 1)[0], together[number : number + 1])


def test_several_networks_share_a_pass_without_changing_each_other():
    images = views(4)
    together = predict_all([predictor(0), predictor(1)], images, 2)
    assert torch.equal(together[1], predict_all([predictor(1)], images, 2)[0])
    assert not torch.equal(together[0], together[1])


def test_outputs_in_another_order_are_put_in_the_order_of_the_classes():
    images, order = views(3), torch.tensor([4, 2, 0, 1, 3])
    plain, ordered = (predict_all([one], images, 3)[0] for one in (predictor(0), predictor(0, order)))
    assert torch.equal(ordered, plain[:, order])
