"""Weights files to the tables of their first layers: `kernels` and `specialisation`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from prefect import task

from model.evaluation.kernels import KERNELS, SPECIALISATION, FirstLayer, kernel_rows, specialisation_rows
from model.evaluation.parquet import write_whole
from model.evaluation.schemas import Row, append
from model.network.alexnet import AlexNet
from model.network.config import Initial, NetworkConfig
from model.network.weights import load_weights
from tasks.code import code_version
from tasks.job import Weights
from tasks.provenance import how_trained, provenance_of
from tasks.tabulate import run_id
from tasks.workspace import Workspace

Towers = tuple[NDArray[Any], NDArray[Any]]


@task(task_run_name="kernels of {preset}")
def write_kernels(networks: Mapping[str, Weights], preset: str, workspace: Workspace) -> list[Row]:
    """Append a row for every kernel and for every network's specialisation; return those of the specialisation."""
    layers = [_first_layer(name, weights, preset) for name, weights in networks.items()]
    rows = {"kernels": [row for layer in layers for row in kernel_rows(layer)], "specialisation": specialisation_rows(layers)}
    workspace.tables.mkdir(parents=True, exist_ok=True)
    for name, schema in (("kernels", KERNELS), ("specialisation", SPECIALISATION)):
        path = workspace.tables / f"{name}.parquet"
        known = pq.read_table(path) if path.exists() else None
        if known is not None and name == "specialisation":  # the published row is there already
            rows[name] = [row for row in rows[name] if row["source"] == "measured"]
        write_whole(path, [append(known, rows[name], schema)], schema)
    return rows["specialisation"]


def towers_of(network: AlexNet) -> Towers:
    """Return the kernels (K, 3, 11, 11) of tower a and of tower b."""
    first = network.conv1
    return first.a.weight.detach().numpy(), first.b.weight.detach().numpy()  # type: ignore[operator]


def _first_layer(name: str, weights: Weights, preset: str) -> FirstLayer:
    network, info = load_weights(weights.path)
    provenance = {
        "preset": preset,
        "code_version": code_version(),
        "run_id": run_id(),
        "created_at": datetime.now(UTC),
        **provenance_of([weights], {"measured": "first layer"}),
    }
    return FirstLayer(name, (weights.digest,), towers_of(network), _initial(weights, info.network), provenance)


def _initial(weights: Weights, config: NetworkConfig) -> Towers | None:
    """The kernels before training, drawn again from the seed; None if the network was fine-tuned or its run is unknown."""
    settings = how_trained(weights).settings
    if settings is None or settings["initial"] is not None:
        return None
    training = settings["training"]["training"]
    with torch.inference_mode():
        return towers_of(AlexNet(config).initialise(training["seed"], Initial(**training["initial"])))
