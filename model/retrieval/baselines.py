"""Simple codes to compare an auto-encoder with: signs of projections that are random, principal, or rotated to fit (ITQ).

[GL11] Gong & Lazebnik, Iterative Quantization, CVPR 2011. On a CPU the last bits depend on the number of threads.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from base.errors import InputError
from model.retrieval.vectors import Vectors

Method = Literal["random-projection", "pca", "itq"]

FIT_ROWS = 32_768
"""(ours) Vectors that a projection is fitted to: eight for each of 4096 values; 512 MB in float32."""
ROWS_IN_DOUBLE = 1024
ITERATIONS = 50
"""[GL11 §3.3]"""


class Projection:
    """Bits are the signs of projections of the centred vectors."""

    def __init__(self, mean: Tensor, directions: Tensor) -> None:
        """Take float64 (D,) and (D, bits)."""
        self.mean, self.directions = mean, directions

    @property
    def num_bits(self) -> int:
        """Bits of a code."""
        return self.directions.shape[1]

    def project(self, values: Tensor) -> Tensor:
        """Return the projections (N, bits) in float64."""
        return (values.double() - self.mean) @ self.directions

    def bits(self, values: Tensor) -> Tensor:
        """Return the code (N, bits) as booleans."""
        return self.project(values) > 0


def fit_projection(method: Method, vectors: Vectors, num_bits: int, seed: int = 0) -> Projection:
    """Fit to all vectors, or to `FIT_ROWS` that the seed draws.

    Raises:
        InputError: there are more bits than values, or than vectors.
    """
    values, mean, generator = _sample(vectors, seed)
    if method == "random-projection":
        return Projection(mean, torch.from_numpy(generator.standard_normal((values.shape[1], num_bits))))
    if num_bits > min(values.shape):
        raise InputError(
            f"{method} of {num_bits} bits needs as many vectors and values; "
            f"there are {values.shape[0]:,} of {values.shape[1]:,}"
        )
    principal = Projection(mean, _principal(vectors, seed)[:, :num_bits])
    if method == "pca":
        return principal
    start = torch.from_numpy(generator.standard_normal((num_bits, num_bits)))
    projected = torch.cat([principal.project(piece) for piece in _pieces(values)])
    return Projection(mean, principal.directions @ _rotation(projected, start))


def _sample(vectors: Vectors, seed: int) -> tuple[Tensor, Tensor, np.random.Generator]:
    """Return the vectors to fit to (N, D), their mean (D,) in float64, and the generator that drew them."""
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = np.sort(generator.permutation(len(vectors))[:FIT_ROWS])
    values = torch.from_numpy(vectors.take(rows))
    return values, torch.stack([piece.double().sum(dim=0) for piece in _pieces(values)]).sum(dim=0) / len(values), generator


def _pieces(values: Tensor) -> list[Tensor]:
    return [values[start : start + ROWS_IN_DOUBLE] for start in range(0, len(values), ROWS_IN_DOUBLE)]


@lru_cache(maxsize=4)
def _principal(vectors: Vectors, seed: int) -> Tensor:
    """Return all directions (D, D), that of the largest variance first. Of 4096 values they take minutes: codes share them."""
    values, mean, _ = _sample(vectors, seed)
    covariance = torch.zeros(2 * mean.shape, dtype=torch.float64)
    for piece in _pieces(values):
        centred = piece.double() - mean
        covariance += centred.T @ centred
    directions: Tensor = torch.linalg.eigh(covariance).eigenvectors
    return directions.flip(1)


def _rotation(projected: Tensor, start: Tensor) -> Tensor:
    """Return the rotation (bits, bits) that brings projections (N, bits) near to their signs. [GL11 §3.2]"""
    rotation: Tensor = torch.linalg.qr(start).Q
    for _ in range(ITERATIONS):
        signs = torch.where(projected @ rotation > 0, 1.0, -1.0).double()
        left, _, right = torch.linalg.svd(signs.T @ projected)
        rotation = (left @ right).T
    return rotation
