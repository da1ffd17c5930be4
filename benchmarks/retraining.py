"""How often each rule promotes a challenger that differs by its seed alone: `python -m benchmarks.retraining`.

Networks of the demo, equal but for the seed, are trained and scored on the same 1,000 images. Each is the first champion once,
and all others challenge it, so every promotion is a mistake. A run that was stopped resumes; the workspace keeps the networks.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np

from benchmarks.record import ROOT
from flows.presets import load_preset
from model.evaluation.predictions import open_predictions
from model.retraining.rules import Comparison, Rule, Wrong, compare, compare_over_seeds, decide
from tasks.colours import measure_colours
from tasks.compute import Compute
from tasks.predict import predict_split, predictions_file
from tasks.shard import shard_split
from tasks.train import plan_training, train_networks
from tasks.workspace import locked

RULES: tuple[tuple[Rule, float], ...] = (
    ("superior", 0),
    ("superior", 0.02),
    ("superior", 0.03),
    ("superior", 0.04),
    ("not-worse", 0.01),
    ("not-worse", 0),
)
"""Each with its margin."""
SEEDS = (2, 3, 5)
"""Networks of a challenger, and of a champion, of `superior-over-seeds`."""
DRAWS = 1000
"""Champions and challengers drawn from all networks."""


def main() -> None:
    """Train, score, and print one line a rule."""
    arguments = _arguments()
    wrong = _score(arguments.workspace, arguments.networks)
    errors = np.array([one.mean() for one in wrong])
    print(
        f"{len(wrong)} networks: error {errors.mean():.1%} ± {errors.std(ddof=1):.1%}, {errors.min():.1%} to {errors.max():.1%}"
    )
    pairs = list(permutations(range(len(wrong)), 2))
    differ = np.array([compare(wrong[a], wrong[b]).pair for a, b in pairs])
    print(f"only one of two has {differ[:, 1:].sum(1).mean() / len(wrong[0]):.1%} of the images wrong, on average")
    compared = {pair: compare(*(wrong[place] for place in pair)) for pair in pairs}
    for rule, margin in RULES:
        promoted = {pair for pair, found in compared.items() if decide(rule, found, margin).decision == "promoted"}
        nights = [sum(1 for _ in _in_turn(start, len(wrong), promoted)) for start in range(len(wrong))]
        print(
            f"{rule}, margin {margin:.0%}: {len(promoted)} of {len(pairs)} pairs ({len(promoted) / len(pairs):.1%}); "
            f"in {len(wrong) - 1} retrainings in a row {nights[0]} promotions from seed 0, {np.mean(nights):.1f} on average"
        )
    for number in SEEDS:
        drawn = list(_drawn(wrong, number))
        mistakes = sum(decide("superior-over-seeds", one, 0).decision == "promoted" for one in drawn)
        reach = np.median([(one.interval.high - one.interval.low) / 2 for one in drawn])
        print(f"superior-over-seeds, {number} seeds: {mistakes} of {DRAWS} draws ({mistakes / DRAWS:.1%}), needs {reach:.1%}")


def _in_turn(start: int, num: int, promoted: set[tuple[int, int]]) -> Iterator[int]:
    """Yield the challengers that are promoted if all challenge in turn, the next seed first."""
    champion = start
    for challenger in ((start + step) % num for step in range(1, num)):
        if (champion, challenger) in promoted:
            champion = challenger
            yield challenger


def _drawn(wrong: Sequence[Wrong], number: int) -> Iterator[Comparison]:
    """Yield comparisons of `number` networks with `number` others."""
    generator = np.random.default_rng(0)
    for _ in range(DRAWS):
        places = generator.choice(len(wrong), 2 * number, replace=False)
        first, second = ([wrong[place] for place in half] for half in (places[:number], places[number:]))
        yield compare_over_seeds(first, second, first[0], second[0])


def _score(path: Path, num_networks: int) -> list[Wrong]:
    """Which of the validation images each network has wrong."""
    plan = load_preset("demo", None)
    compute = Compute(devices=("cpu",), num_threads=1, at_once=1)
    with locked(path, reuse=True) as workspace:
        train, val = (shard_split.fn(plan.target, split, plan.shards, workspace) for split in ("train", "val"))
        data = {"train": train, "val": val, "colours": measure_colours.fn(train, workspace)}
        trainings = [plan.training.model_copy(update={"seed": seed}) for seed in range(num_networks)]
        jobs = [plan_training(f"seed-{one.seed}", plan.recipe, plan.network, one, data, compute) for one in trainings]
        networks = train_networks.fn(jobs, compute, workspace)
        files = predict_split.fn(networks, val, "val", 10, compute, workspace)
        answers = [open_predictions(predictions_file(file)).answers() for file in files]
    return [one.labels.ranks > 1 for one in answers if one.labels is not None]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", type=int, default=21, help="one champion and its challengers")
    parser.add_argument(
        "--workspace", type=Path, default=ROOT / "artifacts" / "seeds", help="folder for everything that is made"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
