"""The flows as programs, run as a user would."""

import inspect
import subprocess
import sys

import pytest

from flows.evaluate import evaluate
from flows.evaluate_classifier import evaluate_classifier
from flows.reproduce import reproduce
from flows.score import score
from flows.shard import shard
from flows.submit import submit
from flows.train import train
from flows.verify import verify


def call(flow, *options, home, **variables):
    command = [sys.executable, "-m", f"flows.{flow}", *map(str, options)]
    environment = {"PREFECT_HOME": str(home), "PATH": "/usr/bin:/bin", "HOME": str(home), **variables}
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, timeout=120, check=False
    )


@pytest.mark.parametrize("flow", [shard, verify, train, evaluate, evaluate_classifier, submit, score, reproduce])
def test_every_parameter_of_a_flow_is_an_option_with_help(flow, tmp_path):
    result = call(flow.fn.__name__, "--help", home=tmp_path)
    assert result.returncode == 0
    for name in inspect.signature(flow.fn).parameters:
        assert f"--{name.replace('_', '-')}" in result.stdout
        assert f"{name}:" in (flow.fn.__doc__ or ""), f"{name} has no help"


@pytest.mark.parametrize(
    ("flow", "options", "message"),
    [
        ("reproduce", ["--preset", "nope"], 'Invalid value "nope" for --preset'),
        ("reproduce", ["--epochs", "0"], "epochs: Input should be greater than 0"),
        ("train", ["--epoch", "3"], "Unknown option: --epoch. Did you mean --epochs?"),
        ("evaluate", [], "Parameter --weights requires an argument"),
        (
            "evaluate",
            ["--weights", "a.safetensors", "b.safetensors"],
            "a.safetensors; expected the weights.safetensors of a finished run",
        ),
        (
            "reproduce",
            ["--preset", "ilsvrc2012", "--source", "tests"],
            "the starred networks are pre-trained on fall2011, and its train: no fall11*.tar in",
        ),
    ],
)
def test_a_wrong_option_gets_one_sentence(flow, options, message, tmp_path):
    result = call(flow, *options, home=tmp_path)
    assert result.returncode != 0
    assert message in " ".join(result.stdout.replace("│", " ").split())
    assert "Traceback" not in result.stdout


def test_a_server_that_is_not_there_gets_one_sentence(tmp_path):
    result = call("train", home=tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == (
        "error: Failed to reach API at http://127.0.0.1:9/api/, to which PREFECT_API_URL points; "
        "start that server (make up), or unset it and the run has its own"
    )
    assert "Traceback" not in result.stdout


def folder(tmp_path, content):
    for split in ("train", "val"):
        for wnid in ("n1", "n2"):
            (tmp_path / "images" / split / wnid).mkdir(parents=True)
            (tmp_path / "images" / split / wnid / "x.jpg").write_bytes(content)
    return tmp_path / "images"


def test_a_text_file_named_jpg_gets_one_sentence_at_the_end(tmp_path):
    source = folder(tmp_path, b"hello, world")
    result = call("shard", "--dataset", "folder", "--archives", source, "--workspace", tmp_path / "w", home=tmp_path / "home")
    assert result.returncode == 1
    said = result.stdout
    assert "Traceback" not in said
    *_, head, first, second, advice = said.strip().splitlines()
    assert head == "error: 2 images cannot be decoded, of those looked at so far:"
    bad = [f"  x.jpg, class n{n} ({source}/train/n{n}/x.jpg): not an image; it begins with b'hello, world'" for n in (1, 2)]
    assert sorted((first, second)) == bad
    assert advice == "mend or remove them, or set bad_images to report to leave such images out and list them"
    assert sum("error" in line.lower() for line in said.splitlines()) == 1
