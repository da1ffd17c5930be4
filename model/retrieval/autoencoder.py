"""Train an auto-encoder whose middle layer is a short binary code, on features or on small raw pixels. [K12 §6.1]

Read: vectors by shard. Written: one safetensors file, and next to it the state of a training that may be killed and resumed:
on a CPU it ends with the same bytes, for the same number of threads. `model.retrieval.encoding` turns vectors into codes.
[14] is Krizhevsky & Hinton, ESANN 2011.
"""

import json
from itertools import pairwise
from math import cos, pi
from pathlib import Path
from pickle import UnpicklingError
from time import monotonic

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from base.errors import InputError
from base.files import atomic_write
from base.progress import Progress, Silent
from model.retrieval.vectors import Vectors

METADATA_KEY = "autoencoder"
UNREADABLE = (RuntimeError, KeyError, TypeError, ValueError, EOFError, OSError, UnpicklingError)
"""What reading a damaged state, or one of other settings, can raise."""


class CodeConfig(BaseModel):
    """How an auto-encoder is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bits: int = Field(28, gt=0)
    """[14] 28 and 256."""
    hidden: tuple[int, ...] = (2048, 1024)
    """(ours) Units of the layers before the code, and in reverse after it: a half and a quarter of 4096. A smaller network's
    features take fewer; pixels take the same as its features."""
    seed: int = Field(0, ge=0)
    """(ours) Seed of the initial weights and of the order of the images."""
    epochs: int = Field(20, gt=0)
    """(ours)"""
    batch_size: int = Field(256, gt=0)
    """(ours)"""
    learning_rate: float = Field(1e-3, gt=0)
    """(ours) The first rate of AdamW without decay; it falls to 0 along a cosine."""


class AutoEncoder(nn.Module):
    """Reconstructs vectors (N, D) from `config.bits` bits. Inputs are centred and divided by one deviation for all values."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, num_values: int, config: CodeConfig) -> None:
        super().__init__()
        self.config, sizes = config, [num_values, *config.hidden, config.bits]
        self.encoder, self.decoder = _layers(sizes), _layers(sizes[::-1])
        self.register_buffer("mean", torch.zeros(num_values))
        self.register_buffer("deviation", torch.ones(()))

    @property
    def num_bits(self) -> int:
        """Bits of a code."""
        return self.config.bits

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised input and its reconstruction, both (N, D).

        The code is a sigmoid, rounded to ±1; the gradient ignores the rounding. [14]
        """
        inputs = self.normalise(values)
        soft = torch.tanh(self.encoder(inputs) / 2)  # 2 · sigmoid − 1
        hard = torch.where(soft > 0, 1.0, -1.0)
        return inputs, self.decoder(soft + (hard - soft).detach())

    def bits(self, values: Tensor) -> Tensor:
        """Return the code (N, bits) as booleans."""
        return torch.tanh(self.encoder(self.normalise(values)) / 2) > 0

    def normalise(self, values: Tensor) -> Tensor:
        """Return centred values with a mean square of about one."""
        return (values.float() - self.mean) / self.deviation


def train_autoencoder(
    vectors: Vectors,
    config: CodeConfig,
    state_path: Path | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008  # immutable
    progress: Progress | None = None,
    save_seconds: float = 60.0,
) -> AutoEncoder:
    """Train to the end, from the state in `state_path` if there is one; return the network, on the CPU.

    The state is saved there every `save_seconds`.

    Raises:
        InputError: the loss is no longer finite, all vectors are the same, or the state cannot be read.
    """
    network, progress = _initial(vectors, config).to(device), progress or Silent()
    adam = torch.optim.AdamW(network.parameters(), weight_decay=0.0, fused=True)
    step = _resume(state_path, network, adam)
    per_epoch = -(-len(vectors) // config.batch_size)
    total, saved, order, epoch = config.epochs * per_epoch, monotonic(), np.empty(0, np.int64), -1
    while step < total:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = np.random.Generator(np.random.PCG64([config.seed, epoch])).permutation(len(vectors))
        start = step % per_epoch * config.batch_size
        rows = np.sort(order[start : start + config.batch_size])  # in the order of the file
        for group in adam.param_groups:
            group["lr"] = config.learning_rate * (1 + cos(pi * step / total)) / 2
        loss = _step(network, adam, torch.from_numpy(vectors.take(rows)).to(device))
        step += 1
        if progress.due() or step == total:
            _report(progress, step, total, per_epoch, loss)
        if state_path is not None and monotonic() - saved >= save_seconds:
            _save_state(state_path, step, network, adam)
            saved = monotonic()
    return network.cpu().eval()


def save_autoencoder(network: AutoEncoder, path: Path) -> None:
    """Write the parameters, the mean and the deviation, and the settings."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    content = save(tensors, metadata={METADATA_KEY: network.config.model_dump_json()})
    with atomic_write(path) as file:
        file.write(content)


def load_autoencoder(path: Path) -> AutoEncoder:
    """Return the auto-encoder in a file of `save_autoencoder`.

    Raises:
        InputError: there is no such file, or it is another one.
    """
    if not path.is_file():
        raise InputError(f"no auto-encoder {path}; train one first")
    try:
        with safe_open(path, framework="pt") as file:
            config = CodeConfig.model_validate(json.loads(file.metadata()[METADATA_KEY]))
        tensors = load_file(path)
        network = AutoEncoder(len(tensors["mean"]), config)
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValidationError) as error:
        raise InputError(f"{path} is not an auto-encoder of this project ({type(error).__name__}); train one first") from error
    return network.eval()


def _layers(sizes: list[int]) -> nn.Sequential:
    """Linear layers of these sizes with ReLUs between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _initial(vectors: Vectors, config: CodeConfig) -> AutoEncoder:
    """Draw the weights from the seed and measure the vectors, in blocks of one size: the same bits for any shards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = AutoEncoder(vectors.num_values, config)
    sums, squares = np.zeros((2, vectors.num_values))
    for block in vectors.blocks():
        double = block.values.astype(np.float64)
        sums += double.sum(axis=0)
        squares += np.square(double).sum(axis=0)
    mean = sums / len(vectors)
    variance = float((squares / len(vectors) - mean**2).mean())
    if variance <= 0:
        raise InputError(f"all {len(vectors):,} vectors are the same; expected the features of a network that has learnt")
    network.mean.copy_(torch.from_numpy(mean))
    network.deviation.fill_(variance**0.5)
    return network


def _step(network: AutoEncoder, adam: torch.optim.AdamW, values: Tensor) -> Tensor:
    inputs, outputs = network(values)
    loss = F.mse_loss(outputs, inputs)
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types
    adam.step()
    return loss.detach()


def _report(progress: Progress, step: int, total: int, per_epoch: int, loss: Tensor) -> None:
    value = float(loss)
    if not np.isfinite(value):
        raise InputError(f"the loss is {value} after step {step:,}; use a smaller learning rate")
    progress.report(step / per_epoch, total / per_epoch, "epochs", f"error {value:.3f}", loss=value)


def _save_state(path: Path, step: int, network: AutoEncoder, adam: torch.optim.AdamW) -> None:
    with atomic_write(path) as file:
        torch.save({"step": step, "network": network.state_dict(), "adam": adam.state_dict()}, file)


def _resume(path: Path | None, network: AutoEncoder, adam: torch.optim.AdamW) -> int:
    """Restore network and optimiser in place; return the number of steps so far."""
    if path is None or not path.is_file():
        return 0
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(values["network"])
        adam.load_state_dict(values["adam"])
        return int(values["step"])
    except UNREADABLE as error:
        raise InputError(f"cannot resume from {path} ({type(error).__name__}); delete it to train from the start") from error
