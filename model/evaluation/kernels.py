"""How much colour the first layer's kernels hold, and whether one tower holds more of it. [K12 figure 3, §6.1]

`kernel_rows` and `specialisation_rows` make the rows of `kernels.parquet` and `specialisation.parquet`.
Kernels are float arrays (K, 3, 11, 11) in the order red, green, blue; K is 48 at full size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.evaluation.schemas import PROVENANCE, SCHEMA_VERSION, Row

Floats = NDArray[np.floating]
Shares = tuple[Floats, Floats]
"""The chroma shares of the kernels of two towers, (K,) each."""

KERNELS = pa.schema(
    [
        ("members", pa.list_(pa.string())),
        ("model", pa.string()),
        ("tower", pa.string()),
        ("kernel", pa.int16()),
        ("chroma_share", pa.float64()),
        ("learnt_chroma_share", pa.float64()),
        ("grey_unexplained", pa.float64()),
        ("rms", pa.float64()),
        *PROVENANCE,
    ]
)

SPECIALISATION = pa.schema(
    [
        ("members", pa.list_(pa.string())),
        ("model", pa.string()),
        ("source", pa.string()),
        ("kernels_per_tower", pa.int32()),
        ("coloured_a", pa.int32()),
        ("coloured_b", pa.int32()),
        ("mean_a", pa.float64()),
        ("mean_b", pa.float64()),
        ("auc", pa.float64()),
        ("p_value", pa.float64()),
        ("colour_tower", pa.string()),
        *PROVENANCE,
    ]
)

COLOURED = 0.5
"""(ours) A kernel with a higher chroma share is coloured: more of it is colour than grey."""

NUM_PERMUTATIONS = 10_000
"""(ours) The smallest p-value that they can show is .0001."""

PUBLISHED: Row = {
    "model": "CNN",
    "source": "K12 figure 3",
    "kernels_per_tower": 48,
    "coloured_a": 3,
    "coloured_b": 29,
    "mean_a": 0.09,
    "mean_b": 0.56,
    "auc": 0.77,
    "p_value": 0.0001,
    "colour_tower": "b",
    "schema_version": SCHEMA_VERSION,
}
"""Measured in the printed picture of the paper's kernels. The p-value is an upper bound."""


@dataclass(frozen=True)
class FirstLayer:
    """The kernels of one trained network."""

    model: str
    members: tuple[str, ...]
    """SHA-256 of the weights file."""
    towers: tuple[Floats, Floats]
    """(K, 3, 11, 11) of tower a and of tower b."""
    initial: tuple[Floats, Floats] | None
    """The same before training; None if they cannot be drawn again."""
    provenance: Row
    """The provenance columns of its rows, without `schema_version`."""


def chroma_share(kernels: Floats) -> Floats:
    """Return for each kernel the share of its energy outside the grey axis: 1 − Σ(r + g + b)² / 3 ÷ Σw². (ours)

    A grey kernel has 0, opponent colours have 1, white noise has 2/3. A kernel of zeros has no share: NaN.
    """
    grey = (_flat(kernels).sum(1) ** 2).sum(1) / 3
    return _one_minus(grey, (_flat(kernels) ** 2).sum((1, 2)))


def grey_unexplained(kernels: Floats) -> Floats:
    """Return for each kernel the share of its variance that its own grey version does not explain: 1 − R². (ours)

    The mean of a kernel's weights does not count here. In `chroma_share` it does, as part of the grey.
    """
    flat = _flat(kernels)
    centred = flat - flat.mean((1, 2), keepdims=True)
    grey = 3 * (centred.mean(1) ** 2).sum(1)
    return _one_minus(grey, (centred**2).sum((1, 2)))


def rms(kernels: Floats) -> Floats:
    """Return the root of the mean square of each kernel's weights."""
    return np.asarray(np.sqrt((_flat(kernels) ** 2).mean((1, 2))))


def tower_auc(shares: Shares) -> float:
    """Return the probability that a kernel of tower b is more coloured than one of tower a; ties count half."""
    a, b = shares
    return float(((b[:, None] > a).mean() + (b[:, None] >= a).mean()) / 2)


def separation(networks: Sequence[Shares]) -> float:
    """Return max(AUC, 1 − AUC), on average over networks: towers may be renumbered. [K12 §6.1]"""
    return float(np.mean([max(auc, 1 - auc) for auc in map(tower_auc, networks)]))


def permutation_p(networks: Sequence[Shares], seed: int = 0) -> float:
    """Return how often towers that are dealt at random within each network are separated at least as well.

    The kernels are sorted before they are dealt, so that exchanging the towers of a network changes nothing.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    dealt = np.mean([_dealt(np.sort(np.concatenate(shares)), generator) for shares in networks], axis=0)
    reached = int((dealt >= separation(networks) - 1e-9).sum())
    return (reached + 1) / (NUM_PERMUTATIONS + 1)


def kernel_rows(layer: FirstLayer) -> list[Row]:
    """Return a row of `kernels` for each kernel, those of tower a first."""
    return [
        {
            "members": list(layer.members),
            "model": layer.model,
            "tower": tower,
            "kernel": number,
            **measures,
            **_provenance(layer),
        }
        for place, tower in enumerate("ab")
        for number, measures in enumerate(_measures(layer, place))
    ]


def specialisation_rows(layers: Sequence[FirstLayer]) -> list[Row]:
    """Return the paper's row, one row for each network, and one over all of them if there are several.

    In the row over all networks, the more coloured tower of each network counts as b; its `seed` is null.
    """
    shares = [_shares(layer) for layer in layers]
    rows = [_specialised(layer.model, [layer], [share]) for layer, share in zip(layers, shares, strict=True)]
    if len(layers) > 1:
        turned = [share if tower_auc(share) >= 0.5 else share[::-1] for share in shares]
        rows.append({**_specialised(f"{len(layers)} networks", layers, turned), "seed": None})
    return [{**dict.fromkeys(SPECIALISATION.names), **row} for row in (PUBLISHED, *rows)]


def _specialised(model: str, layers: Sequence[FirstLayer], networks: Sequence[Shares]) -> Row:
    a, b = (np.concatenate([shares[place] for shares in networks]) for place in (0, 1))
    aucs = [tower_auc(_shares(layer)) for layer in layers]
    return {
        **_provenance(layers[0]),
        "members": [member for layer in layers for member in layer.members],
        "model": model,
        "source": "measured",
        "kernels_per_tower": len(a),
        "coloured_a": int((a > COLOURED).sum()),
        "coloured_b": int((b > COLOURED).sum()),
        "mean_a": float(a.mean()),
        "mean_b": float(b.mean()),
        "auc": separation(networks),
        "p_value": permutation_p(networks),
        "colour_tower": "b" if min(aucs) > 0.5 else "a" if max(aucs) < 0.5 else None,
        "weights_code_versions": [
            version for layer in layers for version in layer.provenance.get("weights_code_versions") or [None]
        ],
    }


def _measures(layer: FirstLayer, place: int) -> list[Row]:
    final = layer.towers[place]
    learnt = None if layer.initial is None else chroma_share(final - layer.initial[place])
    columns = {"chroma_share": chroma_share(final), "grey_unexplained": grey_unexplained(final), "rms": rms(final)}
    rows: list[Row] = [dict(zip(columns, map(float, values), strict=True)) for values in zip(*columns.values(), strict=True)]
    return [{**row, "learnt_chroma_share": None if learnt is None else float(learnt[k])} for k, row in enumerate(rows)]


def _provenance(layer: FirstLayer) -> Row:
    return {**layer.provenance, "schema_version": SCHEMA_VERSION}


def _shares(layer: FirstLayer) -> Shares:
    return chroma_share(layer.towers[0]), chroma_share(layer.towers[1])


def _dealt(shares: Floats, generator: np.random.Generator) -> Floats:
    """Return `separation` (NUM_PERMUTATIONS,) of the two halves of one network's kernels, dealt at random."""
    half = len(shares) // 2
    below, not_above = np.searchsorted(shares, shares), np.searchsorted(shares, shares, side="right")
    ranks = np.tile((below + not_above + 1) / 2, (NUM_PERMUTATIONS, 1))  # from 1, ties on average
    sums = generator.permuted(ranks, axis=1)[:, :half].sum(1)
    aucs = (sums - half * (half + 1) / 2) / half**2
    return np.asarray(np.maximum(aucs, 1 - aucs))


def _flat(kernels: Floats) -> Floats:
    """Return (K, 3, pixels) in float64."""
    return kernels.reshape(len(kernels), 3, -1).astype(np.float64)


def _one_minus(part: Floats, whole: Floats) -> Floats:
    return np.asarray(1 - np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0))
