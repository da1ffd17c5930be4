"""Predictions files of made-up networks, written as the worker writes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.evaluation.predictions import PredictionsFile, open_predictions, write_part

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
