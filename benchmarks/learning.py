"""Two recipes on real images, scaled down: `python -m benchmarks.learning --source tiny-imagenet-40.tar.gz`.

Forty classes of Tiny ImageNet, 128 px, crops of 112, a quarter of the paper's width. It prints the numbers of
docs/performance.md and draws docs/learning.png. A run that was stopped resumes.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.record import ROOT
from data_shards.datasets.tiny_imagenet import TinyImageNetSource
from data_shards.planning import ShardConfig
from model.network.config import NetworkConfig
from model.reporting.curves import draw_curves
from model.training.config import TrainConfig
from model.training.recipes import RECIPES, RecipeName
from tasks.colours import measure_colours
from tasks.compute import Compute, processors
from tasks.job import Artifact
from tasks.jobs.train import METRICS, TrainJob
from tasks.shard import shard_split
from tasks.train import plan_training, train_networks
from tasks.workspace import Workspace, locked

PATIENCE = 2
"""Epochs without a better validation error before `paper` divides its rate; five are meant for ninety epochs."""


def main() -> None:
    """Train, print the errors, draw the curves."""
    arguments = _arguments()
    names: list[RecipeName] = ["paper", "code2012"]
    plans = [(name, seed) for seed in range(arguments.seeds) for name in names]
    compute = Compute(devices=("cpu",), num_threads=1, at_once=processors())
    with locked(arguments.workspace) as workspace:
        data = _data(arguments.source, workspace)
        jobs = [_job(name, seed, arguments.epochs, data, compute) for name, seed in plans]
        weights = train_networks.fn(jobs, compute, workspace)
    runs = {f"{name}, seed {seed}": _metrics(one.path) for (name, seed), one in zip(plans, weights, strict=True)}
    for name, metrics in runs.items():
        last = metrics.iloc[-1]
        wrong, images = int(last["val_top1_wrong"]), int(last["val_num_images"])
        five = int(last["val_top5_wrong"])
        print(f"{name}: {wrong:,} and {five:,} of {images:,} wrong, {wrong / images:.1%} top-1 and {five / images:.1%} top-5")
    draw_curves(runs, arguments.picture)


def _data(source: Path, workspace: Workspace) -> dict[str, Artifact]:
    images, config = TinyImageNetSource(path=source, num_classes=40), ShardConfig(storage="square128")
    train, val = (shard_split.fn(images, split, config, workspace) for split in ("train", "val"))
    return {"train": train, "val": val, "colours": measure_colours.fn(train, workspace)}


def _job(name: RecipeName, seed: int, epochs: int, data: dict[str, Artifact], compute: Compute) -> TrainJob:
    recipe = RECIPES[name]
    network = NetworkConfig(crop=112, width=1 / 4, **recipe.network)
    config = TrainConfig(**{**recipe.training, "epochs": epochs, "seed": seed, "patience_epochs": PATIENCE})
    return plan_training(f"learning-{name}-{seed}", name, network, config, data, compute)


def _metrics(weights: Path) -> pd.DataFrame:
    return pd.read_parquet(weights.with_name(METRICS))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, required=True, help="tiny-imagenet-200.zip, or a tar or folder of some of it")
    parser.add_argument("--epochs", type=int, default=15, help="epochs of each network")
    parser.add_argument("--seeds", type=int, default=1, help="networks per recipe")
    parser.add_argument("--workspace", type=Path, default=Path("artifacts"), help="folder for everything that is made")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "learning.png", help="file for the curves")
    return parser.parse_args()


if __name__ == "__main__":
    main()
