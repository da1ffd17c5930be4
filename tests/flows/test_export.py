"""A network trained on real images, exported, and used by a stranger who has the folder, torch and Pillow, and nothing else."""

import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from packaging.requirements import Requirement

from base.errors import InputError
from data_shards.decoding import decode_jpeg
from data_shards.images import store
from data_shards.storage import Storage
from flows.evaluate import evaluate
from flows.export import export
from flows.presets import PRESETS, TINY
from flows.train import train
from model.evaluation.predict import Predictor, predict
from model.export.alexnet import ten_views
from model.network.inputs import subtract_mean
from model.network.weights import load_weights
from tasks.code import ROOT
from tasks.export import CARD, check_onnx, open_shards
from tasks.train import open_weights
from tests.forked import LAUNCHED

ARCHIVE = ROOT.parent / "shared" / "data" / "tiny-imagenet-40.tar.gz"
PER_CLASS = 10
"""Images of each of the forty classes, for training and for validation."""

SHARE = 0.25
"""Of how much a probability varies among photographs: what a photograph that the stranger reads may differ by. Pillow's JPEG
encoder has another DCT than that of the shards; a wrong mean or order of colours would change as much as another photograph."""

PROBABILITIES = """
import json, sys
from alexnet import classify, load
print(json.dumps(classify(load(), sys.argv[1:]).tolist()))
"""


def unpack(folder):
    """Unpack ten images of each class of Tiny ImageNet for training, and ten into `val/<wnid>`, a layout that is read too."""
    with tarfile.open(ARCHIVE) as tar:
        root = Path(tar.getnames()[0])
        lines = tar.extractfile(f"{root}/val/val_annotations.txt").read().decode().splitlines()
        wnids = dict(line.split("\t")[:2] for line in lines)
        seen = Counter()
        for member in tar:
            path = Path(member.name).relative_to(root)
            if path.suffix == ".JPEG":
                wnid = wnids[path.name] if path.parts[0] == "val" else path.parts[1]
                seen[path.parts[0], wnid] += 1
                if seen[path.parts[0], wnid] <= PER_CLASS:
                    member.name = f"{path.parts[0]}/{wnid}/{path.name}"
                    tar.extract(member, folder / "tiny", filter="data")
            elif path.name in ("wnids.txt", "words.txt"):
                member.name = path.name
                tar.extract(member, folder / "tiny", filter="data")


@pytest.fixture(scope="module")
def exported(forking, tmp_path_factory):
    """Return the folder of a stranger's copy (`plain`), of another one (`out`), and what was said."""
    if not ARCHIVE.exists():
        pytest.skip("needs tiny-imagenet-40.tar.gz beside the checkout")
    folder = tmp_path_factory.mktemp("exported")
    unpack(folder)
    forty = TINY.target.model_copy(update={"num_classes": 40})
    given = {"name": "tiny forty", "onnx": True, "workspace": folder / "artifacts"}
    same = {"preset": "tiny", "source": folder / "tiny", "device": "cpu", "workspace": folder / "artifacts"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", TINY.model_copy(update={"target": forty}))
        patch.setattr("tasks.launch.subprocess", LAUNCHED)
        weights = train(**same, epochs=8, width=0.125, learning_rate=0.02).weights.path
        evaluate([weights], **same)
        evaluate([weights], **same, views=1, names=["one view"])
        record = export(weights, folder / "out", **given)
        assert export(weights, folder / "out", **given) == record
        (folder / "out" / "config.json").write_text("changed")
        with pytest.raises(InputError) as refused:
            export(weights, folder / "out", **given)
        export(weights, folder / "plain", workspace=folder / "artifacts")
    return folder, f"weights {weights}\n{record}\nrefused: {refused.value}\n"


@pytest.fixture(scope="module")
def stranger(exported, tmp_path_factory):
    """Return a function that runs Python in the exported folder with only torch, what it needs, and Pillow."""
    site = tmp_path_factory.mktemp("site-packages")
    waiting, found = ["torch", "pillow"], set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            try:
                files = distribution(name).files
                needed = [Requirement(text) for text in distribution(name).requires or ()]
            except PackageNotFoundError:  # CUDA's libraries, beside a CPU build
                continue
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
            for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
                if not (site / top).exists():
                    (site / top).symlink_to(distribution(name).locate_file(top))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(site), "PYTHONWARNINGS": "ignore:Failed to initialize NumPy"}  # torch's own warning

    def run(*arguments):
        command = [sys.executable, "-S", "-s", *map(str, arguments)]
        return subprocess.run(command, cwd=exported[0] / "plain", env=environment, capture_output=True, text=True, timeout=100)

    return run


@pytest.fixture(scope="module")
def photographs(exported):
    """Return some validation images as they are in the source."""
    return sorted((exported[0] / "tiny" / "val").rglob("*.JPEG"))[:400:20]


def ours(exported, photographs):
    """Return our probabilities: stored as shards store them, in ten views."""
    weights = Path(re.search("weights (.*)", exported[1])[1])
    network, info = load_weights(weights)
    pixels = [torch.from_numpy(decode_jpeg(store(path.read_bytes(), Storage("square", 128)).jpeg)) for path in photographs]
    views = torch.stack([ten_views(image.permute(2, 0, 1), 112) for image in pixels]).permute(0, 1, 3, 4, 2)
    predictor = Predictor(network, lambda images: subtract_mean(images, info.colours))
    return torch.cat([probs[0] for probs in predict([predictor], [views[:10], views[10:]])])


@pytest.mark.long
def test_the_stranger_has_neither_this_project_nor_numpy(stranger):
    for module in ("model", "base", "numpy", "safetensors"):
        assert f"No module named '{module}'" in stranger("-c", f"import {module}").stderr
    assert stranger("-c", "import torch, PIL").stderr == ""


def test_a_stranger_gets_the_same_five_classes(exported, stranger, photographs):
    done = stranger("-c", PROBABILITIES, *photographs)
    assert done.returncode == 0, done.stderr
    expected, found = ours(exported, photographs), torch.tensor(json.loads(done.stdout))
    assert len(found) == 20
    tolerance = SHARE * expected.std(0).max()
    assert (expected - found).abs().max() < tolerance < 0.05
    for probs, theirs in zip(expected, found, strict=True):  # a class among their five is among ours, but for the tolerance
        assert probs[theirs.topk(5).indices].min() > probs.topk(5).values[-1] - 2 * tolerance


def test_the_program_and_the_example_of_the_card_print_the_same_classes(exported, stranger, photographs):
    program = stranger("alexnet.py", photographs[0])
    assert program.stderr == ""
    path, *lines = program.stdout.splitlines()
    assert path == str(photographs[0])
    example = re.search(r"```python\n(.*?)```", ModelCard.load(exported[0] / "plain" / CARD).text, re.DOTALL)[1]
    again = stranger("-c", example.replace("photograph.jpg", str(photographs[0])))
    assert again.stderr == ""
    assert again.stdout.splitlines() == [line.strip() for line in lines]
    config = json.loads((exported[0] / "plain" / "config.json").read_text())
    probability, wnid, *words = lines[0].split()
    assert re.fullmatch(r"0\.\d{4}", probability)
    assert " ".join(words) == config["words"][config["wnids"].index(wnid)]
    assert len(config["wnids"]) == 40


def test_the_card_has_the_rows_of_the_tables_and_what_the_copies_answered(exported):
    card = ModelCard.load(exported[0] / "out" / CARD)
    assert card.data.model_name == "tiny forty"
    names = [
        (one.metric_name, one.dataset_name, one.dataset_split, one.metric_args["images"]) for one in card.data.eval_results
    ]
    assert names == [
        (f"Top-{top} error, {views}", "tiny-imagenet-40", "val", 400) for views in ("10 views", "1 view") for top in (1, 5)
    ]
    assert re.search(r"\| `model.onnx` +\| \d\.\de-\d\d +\| (9\d|100) of 100 ", card.text)
    assert "tiny-imagenet-40 train, 400" in card.text


def test_the_export_says_how_close_the_copies_are_and_names_its_files(exported):
    said = exported[1].split("refused")[0].strip().splitlines()
    assert [Path(line).name for line in said[-5:]] == [CARD, "alexnet.py", "config.json", "model.onnx", "model.safetensors"]
    assert re.fullmatch(r"model.onnx: the same five classes on \d+ of 100 images, probabilities within \d\.\de-\d\d", said[-7])


def test_a_folder_that_holds_something_else_is_left_alone(exported):
    assert re.search("refused: .*/out/config.json is not what would be written there; move it away, or give", exported[1])
    assert (exported[0] / "out" / "config.json").read_text() == "changed"


def test_without_the_packages_for_onnx_the_export_says_how_to_install_them(monkeypatch):
    check_onnx()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        InputError, match=r"needs onnxruntime, .*pip install -r requirements-onnx.txt, or export without --onnx"
    ):
        check_onnx()


def test_weights_without_their_run_need_a_set_of_shards(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="the validation images of .* were not found; give --shards, a finished set"):
        open_shards(None, open_weights(tmp_path / "weights.safetensors"))
    with pytest.raises(InputError, match="not a finished artefact"):
        open_shards(tmp_path, open_weights(tmp_path / "weights.safetensors"))
