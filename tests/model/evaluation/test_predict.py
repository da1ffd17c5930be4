"""Ten views through the network and their softmax outputs averaged."""

import torch

from model.evaluation.predict import Member, predict
from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours, subtract_mean

COLOURS = Colours(mean=(127, 127, 127), deviations=(10, 20, 60), components=((1, 0, 0), (0, 1, 0), (0, 0, 1)), num_images=1)


def member(seed):
    return Member(AlexNet(NetworkConfig(num_classes=5, crop=64, width=1 / 12)).initialise(seed), COLOURS)


def views(num_images):
    return torch.randint(0, 256, (num_images, 10, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def predict_all(members, images, batch_size):
    batches = zip(images.split(batch_size), torch.arange(len(images)).split(batch_size), strict=True)
    parts = list(predict(members, batches))
    return [torch.cat([probs[n] for probs, _ in parts]) for n in range(len(members))], torch.cat(
        [classes for _, classes in parts]
    )


def test_probabilities_are_averaged_not_logits():
    one, images = member(0), views(3)
    found = predict_all([one], images, 3)[0][0]
    with torch.inference_mode():
        by_view = [one.network(subtract_mean(images[:, view], COLOURS)).softmax(dim=1) for view in range(10)]
    torch.testing.assert_close(found, torch.stack(by_view).mean(dim=0), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))


def test_batch_size_does_not_show_in_the_probabilities():
    images = views(7)
    whole, classes = predict_all([member(0)], images, 7)
    for batch_size in (1, 3):
        parts, again = predict_all([member(0)], images, batch_size)
        torch.testing.assert_close(parts[0], whole[0], rtol=1e-5, atol=1e-7)
        assert torch.equal(classes, again)


def test_several_networks_share_a_pass_without_changing_each_other():
    images = views(4)
    together, _ = predict_all([member(0), member(1)], images, 2)
    alone, _ = predict_all([member(1)], images, 2)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
