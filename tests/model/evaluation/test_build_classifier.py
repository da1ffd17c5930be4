"""A classifier is built with its classes in order, its weights are loaded without running code, and misfits are refused."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from base.errors import InputError
from model.evaluation.build_classifier import build_classifier, load_tensors, match_classes, normalise
from model.evaluation.classifiers import Classifier

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
    return build_classifier(classifier(**changes), weights, WNIDS, torch.device("cpu"))


def test_outputs_are_put_in_the_order_of_the_classes(weights):
    built = build(weights)
    image = torch.tensor([1, 2, 3], dtype=torch.uint8).expand(1, 8, 8, 3)
    logits = built.network(built.prepare(image))
    assert logits.tolist() == [[1, 2, 3]]  # n2, n3, n1
    assert logits[:, built.columns].tolist() == [[3, 1, 2]]  # n1, n2, n3


def test_inputs_are_normalised_as_it_was_trained():
    image = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    assert normalise(image, (10, 10, 10), (2, 5, 10)).flatten().tolist() == [0, 2, 2]


@pytest.mark.parametrize("save", [torch.save, lambda tensors, path: save_file(tensors, path)])
def test_weights_are_safetensors_or_a_state_dict(tmp_path, save):
    save(IDENTITY, tmp_path / "w")
    assert torch.equal(load_tensors(tmp_path / "w")["2.weight"], torch.eye(3))


class Malicious:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved_by_torch(thing, path):
    torch.save({"2.weight": thing}, path)


def pickled(thing, path):
    path.write_bytes(pickle.dumps({"2.weight": thing}))


@pytest.mark.parametrize("save", [saved_by_torch, pickled])
def test_weights_that_want_code_to_run_are_refused_and_nothing_runs(tmp_path, save):
    evil = Malicious()
    evil.path = tmp_path / "was-here"
    save(evil, tmp_path / "w.pt")
    with pytest.raises(InputError, match="neither safetensors nor a state dict of plain tensors, and no code in it will be"):
        load_tensors(tmp_path / "w.pt")
    assert not evil.path.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(small(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"save the state_dict\(\) of the model"):
        load_tensors(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_a_file_without_weights_is_refused(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(InputError, match="w is neither safetensors nor a state dict"):
        load_tensors(tmp_path / "w")


def test_a_list_of_tensors_has_no_names(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "w")
    with pytest.raises(InputError, match="w holds a list and not tensors by name"):
        load_tensors(tmp_path / "w")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(InputError, match="no weights file .*none; expected safetensors or a state dict"):
        load_tensors(tmp_path / "none")


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
        (("n1", "n2", "n3", "n2"), "names the class n2 twice; expected each of the 3 WNIDs once"),
    ],
)
def test_a_class_list_that_does_not_match_is_refused(weights, theirs, message):
    with pytest.raises(InputError, match=message):
        build(weights, wnids=theirs)


def test_the_same_classes_in_any_order_match():
    assert match_classes(["b", "c", "a"], ["a", "b", "c"], "x").tolist() == [2, 0, 1]


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
