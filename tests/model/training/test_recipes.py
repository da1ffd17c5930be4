"""The differences between the paper's text and its authors' code, and the effect of each."""

import pytest
import torch

from model.network.alexnet import AlexNet
from model.network.config import NetworkConfig
from model.network.inputs import Colours, colour_shifts, subtract_mean
from model.training.config import TrainConfig
from model.training.recipes import CODE2012, RECIPES
from model.training.schedule import learning_rates, shares
from model.training.sgd import make_sgd

PAPER, CODE = TrainConfig(), TrainConfig(**CODE2012.training)
SIZE = {"num_classes": 5, "crop": 64, "width": 1 / 8}
PAPERS, CODES = NetworkConfig(**SIZE), NetworkConfig(**SIZE, **CODE2012.network)


def logits(config):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64) * 60
    with torch.inference_mode():
        return AlexNet(config).initialise(1).eval()(images)


def test_every_recipe_names_fields_that_exist():
    for recipe in RECIPES.values():
        NetworkConfig(**recipe.network)
        TrainConfig(**recipe.training, **{k: v for k, v in recipe.fine_tuning.items() if k not in recipe.training})


def test_the_papers_recipe_is_the_defaults():
    assert all(not changes for changes in RECIPES["paper"])


def test_1_deviation_in_the_middle_layers():
    stds = [AlexNet(PAPERS).initialise(0, config.initial).conv4.a.weight.std().item() for config in (PAPER, CODE)]
    assert stds[1] / stds[0] == pytest.approx(3)


def test_2_alpha_on_the_sum_or_on_the_mean():
    assert PAPERS.lrn_alpha == pytest.approx(5 * CODES.lrn_alpha) == 1e-4
    assert not torch.equal(logits(PAPERS), logits(PAPERS.model_copy(update={"lrn_alpha": CODES.lrn_alpha})))


@pytest.mark.parametrize("field", ["relu_after_pool1", "spatial_norm"])
def test_3_and_4_order_of_the_first_layer_and_norm_within_maps(field):
    assert (getattr(PAPERS, field), getattr(CODES, field)) == (False, True)
    assert not torch.equal(logits(PAPERS), logits(PAPERS.model_copy(update={field: True})))


def test_5_rates_of_the_biases_drops_and_a_frozen_conv1():
    plateaued = [0.5] * 100
    assert learning_rates(PAPER, 24, plateaued[:6]) == (pytest.approx(1e-3), pytest.approx(1e-3))
    assert learning_rates(CODE, 24, plateaued[:6]) == (0.01, 0.02)
    assert learning_rates(CODE, 25, []) == (pytest.approx(1e-3), 0.02)
    assert (shares(PAPER, 80, 0, False).conv1, shares(CODE, 80, 0, False).conv1) == (1.0, 0.0)


def test_6_decay_of_the_biases():
    decays = [
        {g["bias"]: g["weight_decay"] for g in make_sgd(AlexNet(PAPERS), config).param_groups} for config in (PAPER, CODE)
    ]
    assert decays == [{False: 5e-4, True: 5e-4}, {False: 5e-4, True: 0.0}]


def test_7_mean_colour_or_mean_image():
    assert (PAPER.mean, CODE.mean) == ("colour", "image")
    components = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    colours = Colours(mean=(1, 2, 3), deviations=(1, 2, 3), components=components, num_images=1)
    images = torch.full((1, 2, 2, 3), 9, dtype=torch.uint8)
    image = torch.tensor([[[0.0, 2, 3], [2, 2, 3]], [[1, 2, 3], [1, 2, 3]]])
    found = [subtract_mean(images, colours.model_copy(update={"mean_image": mean}))[0, 0].tolist() for mean in (None, image)]
    assert found == [[[8, 8], [8, 8]], [[9, 7], [8, 8]]]


def test_8_crops_of_one_image_or_of_32_neighbours():
    assert (PAPER.images_per_draw, CODE.images_per_draw) == (1, 32)  # its effect: tests/data_shards/loading/test_order.py


def test_9_colour_noise_along_eigenvalues_or_deviations_shrinking_and_its_end():
    components = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    colours = Colours(mean=(0, 0, 0), deviations=(19.72, 37.09, 121.78), components=components, num_images=1)
    found = [colour_shifts(colours, torch.eye(3) * 0.1, c.colour_noise_along).diag().tolist() for c in (PAPER, CODE)]
    assert found[0] == [pytest.approx(0.1 * deviation**2 / 255, rel=1e-5) for deviation in colours.deviations]
    assert found[1] == [pytest.approx(0.1 * deviation, rel=1e-5) for deviation in colours.deviations]
    assert (PAPER.shrink_with_noise, CODE.shrink_with_noise) == (False, True)  # its effect: test_loop.py
    assert (PAPER.colour_noise_until, CODE.colour_noise_until) == (None, 67 / 91)


def test_10_when_training_stops():
    lasts = [max(e for e in range(100) if learning_rates(c, e, [1 - e / 100 for e in range(e)])) for c in (PAPER, CODE)]
    assert lasts == [89, 90]


def test_the_other_values_are_equal():
    for name in ("momentum", "weight_decay", "batch_size", "learning_rate", "colour_noise"):
        assert getattr(PAPER, name) == getattr(CODE, name), name
    for name in ("dropout", "lrn_size", "lrn_k"):
        assert getattr(PAPERS, name) == getattr(CODES, name), name
    assert (PAPER.initial.std, PAPER.initial.bias) == (CODE.initial.std, CODE.initial.bias) == (0.01, 1.0)
