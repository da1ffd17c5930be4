"""Both recipes scaled down, on real images: `python -m benchmarks.learning --source tiny-imagenet-40.tar.gz`.

Forty classes of Tiny ImageNet, 128 px, crops of 112, a network a quarter as wide. What it prints stands in docs/performance.md,
what it draws in docs/learning.png. A run that was stopped goes on where it was.
"""

import argparse
from pathlib import Path

import pandas as pd
from model.training.curves import draw_curves
from tasks.steps import processors
from tasks.workers.jobs import METRICS

from benchmarks.record import ROOT
from data_shards.datasets.source import Source
from data_shards.planning import ShardConfig
from flows.train import plan_training
from model.network.config import NetworkConfig
from model.training.config import TrainConfig
from model.training.recipes import RECIPES, RecipeName
from tasks.compute import Compute
from tasks.shard import measure_colours, shard_split
from tasks.train import Training, TrainingSet, train_networks

PATIENCE = 2
"""Epochs without a better validation error before `paper` divides its rate: five are for ninety."""


def main() -> None:
    """Train, print the errors, draw the curves."""
    arguments = _arguments()
    data = _data(arguments.source, arguments.workspace)
    names: list[RecipeName] = ["paper", "code2012"]
    plans = [(name, seed) for seed in range(arguments.seeds) for name in names]
    trainings = [_training(name, seed, arguments.epochs, data) for name, seed in plans]
    compute = Compute(devices=("cpu",), num_threads=1, at_once=processors())
    weights = train_networks.fn(trainings, compute, arguments.workspace)
    runs = {f"{name}, seed {seed}": _metrics(one.path) for (name, seed), one in zip(plans, weights, strict=True)}
    for name, metrics in runs.items():
        last = metrics.iloc[-1]
        wrong, images = int(last["val_top1_wrong"]), int(last["val_num_images"])
        five = int(last["val_top5_wrong"])
        print(f"{name}: {wrong:,} and {five:,} of {images:,} wrong, {wrong / images:.1%} top-1 and {five / images:.1%} top-5")
    draw_curves(runs, arguments.picture)


def _data(source: Path, workspace: Path) -> TrainingSet:
    images, config = Source(kind="tiny-imagenet", path=source, num_classes=40), ShardConfig(storage="square128")
    train, val = (shard_split.fn(images, split, config, workspace) for split in ("train", "val"))
    return TrainingSet(train=train, val=val, colours=measure_colours.fn(train, workspace))


def _training(name: RecipeName, seed: int, epochs: int, data: TrainingSet) -> Training:
    recipe = RECIPES[name]
    network = NetworkConfig(crop=112, width=1 / 4, **recipe.network)
    config = TrainConfig(**{**recipe.training, "epochs": epochs, "seed": seed, "patience_epochs": PATIENCE})
    return plan_training(f"learning-{name}-{seed}", network, config, data)


def _metrics(weights: Path) -> pd.DataFrame:
    return pd.read_parquet(weights.with_name(METRICS))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, required=True, help="tiny-imagenet-200.zip, or a tar or folder of some of it")
    parser.add_argument("--epochs", type=int, default=15, help="of each network")
    parser.add_argument("--seeds", type=int, default=1, help="networks a recipe")
    parser.add_argument("--workspace", type=Path, default=Path("artifacts"), help="folder for everything that is made")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "learning.png", help="where the curves are drawn")
    return parser.parse_args()


if __name__ == "__main__":
    main()
