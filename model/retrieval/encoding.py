"""Turn vectors into packed codes, part by part, and say how good the codes are in themselves.

Codes are vectors of bytes (`model.retrieval.vectors`), a part for each part of the features; their metadata has `bits`. As in
embedding, an encoder only sees passes of one shape, each on one thread: the same bits for any threads and processes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from base.errors import InputError
from model.retrieval.autoencoder import AutoEncoder
from model.retrieval.hamming import Codes, pack, unpack
from model.retrieval.vectors import Part, Values, Vectors, write_vectors

ROWS_PER_PASS = 512
"""(ours) Larger passes are not faster."""


class Encoder(Protocol):
    """An auto-encoder or a projection."""

    @property
    def num_bits(self) -> int:
        """Bits of a code."""

    def bits(self, values: Tensor) -> Tensor:
        """Return the codes (N, bits) of vectors (N, D) as booleans."""


def encode_part(encoder: Encoder, part: Part, at_once: int = 1) -> Codes:
    """Return the packed codes of all vectors of a part. The caller gives each operation one thread; `at_once` passes run."""
    return encode(encoder, Vectors((part,)).read(), at_once)


def encode(encoder: Encoder, values: Values, at_once: int = 1) -> Codes:
    """Return the packed codes of vectors (N, D): those of a part, or of a user's photographs."""
    pieces = [values[start : start + ROWS_PER_PASS] for start in range(0, len(values), ROWS_PER_PASS)]
    with ThreadPoolExecutor(at_once) as pool:
        bits = list(pool.map(partial(_one_pass, lambda rows: encoder.bits(rows)), pieces))
    return pack(np.concatenate(bits))


def write_codes(path: Path, part: Part, codes: Codes, num_bits: int, about: dict[str, Any]) -> None:
    """Write the codes of a part with its keys and labels, and how many bits are a code and how many fill up its bytes."""
    padding = 8 * codes.shape[1] - num_bits
    labels = None if part.wnids.null_count == len(part) else part.wnids.to_pylist()
    write_vectors(path, part.keys.to_pylist(), labels, codes, {**about, "bits": num_bits, "padding": padding})


def num_bits_of(codes: Vectors) -> int:
    """Return how many bits the codes of a split have.

    Raises:
        InputError: they are not codes.
    """
    if "bits" not in codes.about:
        raise InputError(f"{codes.parts[0].path} holds vectors, not codes; encode them first")
    return int(codes.about["bits"])


def codes_of(vectors: Vectors) -> Codes:
    """Return all packed codes of a split.

    Raises:
        InputError: they are not codes.
    """
    num_bits_of(vectors)
    return vectors.read().astype(np.uint8, copy=False)


def reconstruction_error(network: AutoEncoder, vectors: Vectors) -> float:
    """Return Σ|x − reconstruction|² ÷ Σ|x − mean of the training vectors|² over a split, in passes of one shape."""
    errors = np.zeros(2)
    for part in vectors.parts:
        for block in Vectors((part,)).blocks(size=ROWS_PER_PASS):
            errors += _one_pass(partial(_squares, network), block.values).sum(axis=0)
    return float(errors[0] / errors[1])


def dead_bits(codes: Codes, num_bits: int) -> int:
    """Return how many bits are the same in all codes."""
    ones = sum(unpack(codes[start : start + 2**16], num_bits).sum(axis=0) for start in range(0, len(codes), 2**16))
    return int(((ones == 0) | (ones == len(codes))).sum())


def distinct_codes(codes: Codes) -> int:
    """Return how many different codes there are."""
    whole = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1])))
    return len(np.unique(whole))


def _one_pass(compute: Callable[[Tensor], Tensor], values: Values) -> NDArray[Any]:
    filled = np.zeros((ROWS_PER_PASS, values.shape[1]), values.dtype)
    filled[: len(values)] = values
    with torch.inference_mode():
        return compute(torch.from_numpy(filled))[: len(values)].numpy()


def _squares(network: AutoEncoder, values: Tensor) -> Tensor:
    inputs, outputs = network(values)
    return torch.stack(((outputs - inputs).double().square().sum(dim=1), inputs.double().square().sum(dim=1)), dim=1)
