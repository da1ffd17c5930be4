"""A classifier is built with its classes in order, its weights are loaded without running code, and misfits are refused."""

import re
from unicodedata import normalize

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from base.errors import InputError
from model.evaluation.build_classifier import build_classifier, match_classes
from model.evaluation.classifiers import Classifier
from model.evaluation.error_rates import true_ranks
from model.evaluation.factories import normalise
from model.evaluation.predict import NO_OUTPUT, predict

WNIDS = ["n1", "n2", "n3"]


def small():
    """Return a network with the mean of each colour as the logit of a class."""
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3, 3))


def wordy():
    return "a network"


def two_outputs():
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3, 2))


FACTORY = f"{__name__}:small"
IDENTITY = {"2.weight": torch.eye(3), "2.bias": torch.zeros(3)}


@pytest.fixture
def weights(tmp_path):
    save_file(IDENTITY, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def classifier(**changes):
    values = {
        "factory": FACTORY,
        "input_size": 8,
        "mean": (0, 0, 0),
        "scale": (1, 1, 1),
        "wnids": ("n2", "n3", "n1"),
        **changes,
    }
    return Classifier(**values)


def build(weights, **changes):
    return build_classifier(classifier(**changes), weights, WNIDS, torch.device("cpu"), print)[0]


def test_outputs_are_put_in_the_order_of_the_classes(weights):
    built = build(weights)
    image = torch.tensor([1, 2, 3], dtype=torch.uint8).expand(1, 8, 8, 3)
    logits = built.network(built.prepare(image))
    assert logits.tolist() == [[1, 2, 3]]  # n2, n3, n1
    assert logits[:, built.columns].tolist() == [[3, 1, 2]]  # n1, n2, n3


def test_inputs_are_normalised_as_it_was_trained():
    image = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    assert normalise(image, (10, 10, 10), (2, 5, 10)).flatten().tolist() == [0, 2, 2]


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"2.weight": torch.eye(3)}, r"does not fit .*:small: 1 \(2.bias\) missing, none unknown"),
        ({**IDENTITY, "head": torch.eye(3)}, r"none missing, 1 \(head\) unknown"),
        ({**IDENTITY, "2.bias": torch.zeros(4)}, r"2.bias is \(4,\), expected \(3,\)"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=message):
        build(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            ("n1", "n2"),
            r"2 classes and the images have 3: 1 \(n3\) missing, none unknown; expected the same WNIDs in any order",
        ),
        (("n1", "n2", "n4"), r"3 classes and the images have 3: 1 \(n3\) missing, 1 \(n4\) unknown"),
        (("n1", "n2", "n3", "n2"), "names the class n2 twice; expected each WNID once"),
    ],
)
def test_a_class_list_that_does_not_match_is_refused(weights, theirs, message):
    with pytest.raises(InputError, match=message):
        build(weights, wnids=theirs)


def test_the_same_classes_in_any_order_match():
    found = match_classes(["b", "c", "a"], ["a", "b", "c"], "x")
    assert (found.wnids, found.columns.tolist(), found.kept, found.note) == (["a", "b", "c"], [2, 0, 1], None, "")


SIX = ["z", "b", "c", "a", "y", "d", "e"]


@pytest.mark.parametrize(
    ("theirs", "ours", "other", "wnids", "columns", "kept", "note"),
    [
        (SIX, "abcde", "rank", "abcdezy", [3, 1, 2, 5, 6, 0, 4], None, "2 (y, z) unknown: outputs .* ranked as wrong answers"),
        (SIX, "abcde", "leave-out", "abcde", [2, 0, 1, 3, 4], [1, 2, 3, 5, 6], "none missing, 2 .* left out of the ranking"),
        (list("bcdef"), "abcdef", "rank", "abcdef", [5, 0, 1, 2, 3, 4], None, "1 (a) missing, none unknown: images of missing"),
        (SIX, "abcdex", "leave-out", "abcdex", [2, 0, 1, 3, 4, 5], [1, 2, 3, 5, 6], "unknown classes are left .*, images of"),
        (["e\u0301", "b"], ["b", "é"], None, ["b", "é"], [1, 0], None, ""),
    ],
)
def test_more_or_fewer_classes_are_ranked_as_was_asked(theirs, ours, other, wnids, columns, kept, note):
    theirs = [normalize("NFC", wnid) for wnid in theirs]
    found = match_classes(theirs, list(ours), "x", other)
    assert (found.wnids, found.columns.tolist()) == (list(wnids), columns)
    assert (None if found.kept is None else found.kept.tolist()) == kept
    assert re.search(note.replace("(", r"\(").replace(")", r"\)"), found.note)


@pytest.mark.parametrize(
    ("theirs", "ours", "other", "message"),
    [
        (
            "vwxyz",
            "abcde",
            "rank",
            "5 .* missing, 5 .* unknown; expected 5 outputs or more to rank, and two or more of the images'",
        ),
        ("abcd", "abcdef", "rank", r"2 \(e, f\) missing, none unknown; expected 5 outputs or more"),
        ("abcdwxyz", "abcdef", "leave-out", "expected 5 outputs or more to rank"),
        ("abz", "abc", None, "with --other-classes unknown ones are left out of the ranking .leave-out. or ranked as wrong"),
    ],
)
def test_classes_that_cannot_be_ranked_are_refused(theirs, ours, other, message):
    with pytest.raises(InputError, match=message):
        match_classes(list(theirs), list(ours), "x", other)


def seven_outputs():
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3, 7))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("rank", [NO_OUTPUT, 3, 0, 4, 5, 6, 1, 2]),
        ("leave-out", [NO_OUTPUT, 3, 0, 4, 5, 6]),
    ],
)
def test_probabilities_are_those_of_the_outputs_that_are_ranked(tmp_path, other, expected):
    logits = torch.tensor([3.0, -1.0, 2.0, 0.5, -2.0, 1.0, 0.0])
    save_file({"2.weight": torch.zeros(7, 3), "2.bias": logits}, tmp_path / "w")
    names = ("c", "y", "z", "b", "d", "e", "f")
    plan = classifier(factory=f"{__name__}:seven_outputs", wnids=names, other_classes=other)
    predictor, wnids = build_classifier(plan, tmp_path / "w", list("abcdef"), torch.device("cpu"), print)
    assert wnids == list("abcdef") + (["y", "z"] if other == "rank" else [])
    probs = next(predict([predictor], [torch.zeros(1, 1, 8, 8, 3, dtype=torch.uint8)]))[0][0]
    kept = logits if other == "rank" else logits[[0, 3, 4, 5, 6]]
    ranked = logits.sub(kept.exp().sum().log()).exp()
    assert probs.tolist() == pytest.approx([place if place == NO_OUTPUT else float(ranked[place]) for place in expected])
    assert int(true_ranks(probs[None], torch.tensor([0]))) == len(wnids)  # a class without an output is the last


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factory": "no.such.module:net"}, "no.such.module:net cannot be called"),
        ({"factory": f"{__name__}:nothing"}, "cannot be called .*; expected package.module:function without arguments"),
        ({"factory": f"{__name__}:wordy"}, "returned a str; expected a torch module"),
        ({"input_size": 16}, "cannot read an image of 16 × 16 px"),
    ],
)
def test_a_factory_that_does_not_fit_is_refused(weights, changes, message):
    with pytest.raises(InputError, match=message):
        build(weights, **changes)


def test_outputs_that_are_not_one_per_class_are_refused(tmp_path):
    save_file({"2.weight": torch.ones(2, 3), "2.bias": torch.zeros(2)}, tmp_path / "w")
    with pytest.raises(InputError, match=r"two_outputs gave \(1, 2\) for one image; expected logits \(1, 3\), one per WNID"):
        build(tmp_path / "w", factory=f"{__name__}:two_outputs")
