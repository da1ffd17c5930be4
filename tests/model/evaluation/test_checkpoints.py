"""Weights are read as training scripts write them, without running code from the file."""

import argparse
import os
import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from base.errors import InputError
from model.evaluation.build_classifier import build_classifier
from model.evaluation.checkpoints import load_checkpoint
from model.evaluation.classifiers import Classifier

IDENTITY = {"2.weight": torch.eye(3), "2.bias": torch.zeros(3)}


@pytest.mark.parametrize("save", [torch.save, lambda tensors, path: save_file(tensors, path)])
def test_weights_are_safetensors_or_a_state_dict(tmp_path, save):
    save(IDENTITY, tmp_path / "w")
    assert torch.equal(load_checkpoint(tmp_path / "w").tensors["2.weight"], torch.eye(3))


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
        load_checkpoint(tmp_path / "w.pt")
    assert not evil.path.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(nn.Linear(3, 3), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"save the state_dict\(\) of the model"):
        load_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_a_file_without_weights_is_refused(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(InputError, match="w is neither safetensors nor a state dict"):
        load_checkpoint(tmp_path / "w")


def test_a_list_of_tensors_has_no_names(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "w")
    with pytest.raises(InputError, match="w holds a list and not tensors by name, also not as state_dict or"):
        load_checkpoint(tmp_path / "w")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(InputError, match="no weights file .*none; expected safetensors or a state dict"):
        load_checkpoint(tmp_path / "none")


def normed():
    """Return a network with the kinds of tensors that are handled by name: weights and the buffers of BatchNorm."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 8), norm=nn.BatchNorm2d(4), flat=nn.Flatten(), fc=nn.Linear(4, 3)))


def compiled(network):
    return torch.compile(network, backend="eager")  # the default backend takes ten seconds to import, and is not used


def trained():
    network = normed()
    with torch.no_grad():
        for value in network.state_dict().values():
            value.fill_(3)
    return network


def prefixed(first, state):
    return {f"{first}.{name}": value for name, value in state.items()}


def without_counts(state):
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def lightning(state, **others):
    return {"pytorch-lightning_version": "2.4.0", "epoch": 3, "state_dict": state, "hyper_parameters": {"lr": 0.1}, **others}


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.criterion = trained(), nn.CrossEntropyLoss(weight=torch.ones(3))


def ours():
    return trained().state_dict()


CHECKPOINTS = {
    "state dict": (ours, []),
    "float16": (lambda: {name: value.half() for name, value in ours().items()}, []),
    "parameters": (lambda: {**ours(), **dict(trained().named_parameters())}, []),
    "BatchNorm without counts": (lambda: without_counts(ours()), []),
    "state_dict": (
        lambda: {"epoch": 3, "state_dict": ours(), "optimizer": {"state": {}}},
        ["took 'state_dict' of the checkpoint"],
    ),
    "model": (lambda: {"model": ours(), "lr_scheduler": {"last": 1}}, ["took 'model' of the checkpoint"]),
    "model_state_dict": (lambda: {"model_state_dict": ours(), "loss": 0.1}, ["took 'model_state_dict' of the checkpoint"]),
    "moving average too": (
        lambda: {"state_dict": ours(), "state_dict_ema": ours()},
        ["took 'state_dict' of the checkpoint; not used: state_dict_ema"],
    ),
    "DataParallel": (
        lambda: nn.DataParallel(trained()).state_dict(),
        ["took 'module.' out of the names of tensors, which DataParallel adds"],
    ),
    "torch.compile": (
        lambda: compiled(trained()).state_dict(),
        ["took '_orig_mod.' out of the names of tensors, which torch.compile adds"],
    ),
    "both, in a checkpoint": (
        lambda: {"model": nn.DataParallel(compiled(trained())).state_dict()},
        ["took 'model' of", "took 'module.' out of", "took '_orig_mod.' out of"],
    ),
    "a part that was compiled": (
        lambda: {name.replace("fc.", "fc._orig_mod."): value for name, value in ours().items()},
        ["took '_orig_mod.' out of"],
    ),
    "DataParallel without counts": (lambda: without_counts(prefixed("module", ours())), ["took 'module.' out of"]),
    "Lightning": (lambda: lightning(prefixed("net", ours())), ["took 'state_dict' of", "took 'net.' off the names of tensors"]),
    "Lightning with a loss": (
        lambda: lightning(Wrapped().state_dict()),
        ["took 'state_dict' of", "took 'net.' off the names of tensors; not used: what begins with criterion"],
    ),
    "Lightning, compiled": (
        lambda: lightning(prefixed("model", compiled(trained()).state_dict())),
        ["took 'state_dict' of", "took '_orig_mod.' out of", "took 'model.' off"],
    ),
}


def build(path, say, factory="normed"):
    plan = Classifier(factory=f"{__name__}:{factory}", input_size=8, mean=(0, 0, 0), scale=(1, 1, 1), wnids=("n1", "n2", "n3"))
    return build_classifier(plan, path, ["n1", "n2", "n3"], torch.device("cpu"), say)[0].network


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_of_a_training_script_is_unwrapped_and_it_is_said(kind, tmp_path):
    make, notes = CHECKPOINTS[kind]
    torch.save(make(), tmp_path / "w.pt")
    said = []
    network = build(tmp_path / "w.pt", said.append)
    assert len(said) == len(notes)
    for line, note in zip(said, notes, strict=True):
        assert line.startswith(f"{tmp_path / 'w.pt'}: {note}")
    for name, value in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert bool((value == 3).all()), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: {"args": argparse.Namespace(lr=1), "model": ours()},
            "no code in it will be run: it names argparse.Namespace; save",
        ),
        (
            lambda: lightning({"net": 3}),
            "a dictionary of pytorch-lightning_version, epoch, state_dict, .* and not tensors by name",
        ),
        (dict, "holds a dictionary of  and not tensors by name"),
        (lambda: {**ours(), "epoch": 3}, "holds a dictionary of conv.weight, .* and not tensors by name"),
        (lambda: {"fc.weight": torch.zeros(3, 4), "module.fc.weight": torch.zeros(3, 4)}, "two tensors of one name"),
        (lambda: prefixed("other", {"x": torch.zeros(1)}), r"8 .*missing, 1 \(other.x\) unknown"),
        (lambda: Wrapped().state_dict(), "missing, 10 .* unknown"),
        (lambda: {**ours(), "fc.bias": torch.zeros(4)}, r"fc.bias is \(4,\), expected \(3,\)"),
    ],
)
def test_what_torchs_strict_loading_refuses_is_refused(make, message, tmp_path):
    torch.save(make(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=message):
        build(tmp_path / "w.pt", print)


class Versioned(nn.Module):
    """A module that reads tensors of its first version otherwise, as those of torchvision do."""

    _version = 2

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, images):
        return self.fc(images.mean((2, 3)))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        assert local_metadata.get("version") == 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


@pytest.mark.parametrize("wrap", [lambda one: one, nn.DataParallel, compiled, lambda one: nn.DataParallel(compiled(one))])
def test_the_versions_of_modules_come_through_the_wrappers(wrap, tmp_path):
    torch.save({"model": wrap(Versioned()).state_dict()}, tmp_path / "w.pt")
    build(tmp_path / "w.pt", print, "Versioned")
