"""Predictions files of random networks, written as the worker writes them, and measured rows."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.evaluation.answers import Answers, Labels
from model.evaluation.predictions import PredictionsFile, open_predictions, write_part
from model.evaluation.rows import Evaluation, Measured, measured_row
from model.evaluation.schemas import Row

WriteFile = Callable[..., PredictionsFile]


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    """Return a function that writes a file of random probabilities, or of those given, and opens it."""

    def write(
        seed: int = 0,
        num_images: int = 50,
        num_classes: int = 7,
        probs: torch.Tensor | None = None,
        true: Any = "cyclic",
        name: str | None = None,
        **about: Any,
    ) -> PredictionsFile:
        generator = torch.Generator().manual_seed(seed)
        if probs is None:
            probs = torch.rand(num_images, num_classes, generator=generator).mul_(4).softmax(dim=1)
        num_images, num_classes = probs.shape
        labels = np.arange(num_images) % num_classes if isinstance(true, str) else true
        about = {"wnids": [f"n{n}" for n in range(num_classes)], "weights": f"digest {seed}", **about}
        path = tmp_path / f"{name or seed}.parquet"
        image_ids = [f"image-{n}" for n in range(num_images)]
        write_part(path, image_ids, None if labels is None else np.asarray(labels), probs, about)
        return open_predictions(path)

    return write


def answers_of(ranks: Any = (1, 3, 1, 9), best: Any = None, labelled: bool = True) -> Answers:
    """Return the answers for four images of four classes."""
    true = np.array([0, 1, 1, 2])
    guesses = np.array([[0, 3], [3, 1], [1, 3], [0, 3]]) if best is None else np.array(best)
    labels = Labels(true, np.array(ranks), np.log([0.5, 0.25, 0.5, 0.125])) if labelled else None
    return Answers(list("abcd"), ["n0", "n1", "n2", "n3"], guesses, labels)


@pytest.fixture
def evaluation() -> Evaluation:
    """Return what all rows of an evaluation share."""
    return Evaluation("synthetic", "val", 10, "demo", "shards-digest", "abc123", None, datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def measured() -> Callable[..., Measured]:
    """Return a function that makes a network or ensemble with its answers."""

    def make(
        model: str = "5 CNNs",
        members: tuple[str, ...] = ("w1", "w2"),
        table: str = "table2",
        recipe: str | None = "paper",
        seed: int | None = 0,
        config: str = "config-digest",
        **answers: Any,
    ) -> Measured:
        shares = (1 / len(members),) * len(members)
        commits = tuple(f"commit of {name}" for name in members)
        return Measured(table, model, tuple(members), shares, None, recipe, seed, config, commits, answers_of(**answers))

    return make


@pytest.fixture
def row(measured: Callable[..., Measured], evaluation: Evaluation) -> Callable[..., Row]:
    """Return a function that makes a row of `error_rates`; `on` changes the evaluation, other arguments the network."""

    def make(on: dict[str, Any] | None = None, **changes: Any) -> Row:
        return measured_row(measured(**changes), replace(evaluation, **(on or {})))

    return make
