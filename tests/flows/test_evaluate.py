"""A network that is not of this project, scored from the command line as a user would."""

import os
import subprocess
import sys

import pandas as pd
import torch
from safetensors.torch import save_file

from data_shards.datasets.synthetic import Synthetic
from tasks.code import ROOT

WNIDS = [wnid for wnid, _ in Synthetic(train_per_class=1, val_per_class=1).classes()]


def run(tmp_path, wnids):
    (tmp_path / "wnids.txt").write_text("\n".join(wnids) + "\n")
    tensors = {"2.weight": torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), "2.bias": torch.zeros(20)}
    (tmp_path / "colours" / "v1").mkdir(parents=True, exist_ok=True)
    save_file(tensors, tmp_path / "colours" / "v1" / "weights.safetensors")
    options = {
        "--weights": [tmp_path / "colours" / "v1" / "weights.safetensors"],
        "--factory": ["tests.tasks.workers.test_predict:mean_colours"],
        "--classes": [tmp_path / "wnids.txt"],
        "--input-size": [48],
        "--mean": [115, 114, 116],
        "--scale": [60, 60, 60],
        "--views": [1],
        "--workspace": [tmp_path / "workspace"],
    }
    words = [str(word) for name, values in options.items() for word in (name, *values)]
    command = [sys.executable, "-m", "flows.evaluate_classifier", *words]
    environment = dict(os.environ, PREFECT_HOME=str(tmp_path / "prefect"))
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


def test_any_classifier_is_scored_from_the_command_line(tmp_path):
    done = run(tmp_path, WNIDS[::-1])
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    row = pd.read_parquet(tmp_path / "workspace" / "tables" / "error_rates.parquet").query("source == 'measured'").iloc[0]
    assert (row["model"], row["num_images"], row["views"]) == ("colours", 1000, 1)
    assert row["top1_error"] == row["top1_wrong"] / 1000
