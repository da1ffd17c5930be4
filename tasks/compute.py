"""On which devices networks are trained and tested, and how many side by side."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict

from tasks.steps import processors


class Compute(BaseModel):
    """Where arithmetic is done."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    devices: tuple[str, ...]
    """One for a whole network, or two: one for each tower."""
    num_threads: int
    """CPU threads a network."""
    at_once: int
    """Networks trained at the same time."""

    @property
    def kinds(self) -> list[str]:
        """`cpu` or `cuda` of each device; what the last bits of a result depend on."""
        return [device.split(":")[0] for device in self.devices]


def choose_compute(device: str, threads_per_network: int | None) -> Compute:
    """Understand `auto`, one device, or two with a comma between them.

    Networks share a CPU as their threads allow, and take turns on a GPU.

    Raises:
        ValueError: no such device here.
    """
    name = ("cuda" if torch.cuda.device_count() else "cpu") if device == "auto" else device
    devices = tuple(part.strip() for part in name.split(","))
    if len(devices) > 2:
        raise ValueError(f"{len(devices)} devices in {device!r}; the network has two towers: give one device or two")
    for part in devices:
        _check(part)
    threads = min(threads_per_network or processors(), processors())
    on_cpu = set(devices) == {"cpu"}
    return Compute(devices=devices, num_threads=threads, at_once=processors() // threads if on_cpu else 1)


def _check(device: str) -> None:
    kind: Literal["cpu", "cuda"] | str
    kind, _, index = device.partition(":")
    if kind == "cpu" and not index:
        return
    if kind == "cuda" and (not index or index.isdigit()):
        if int(index or 0) < torch.cuda.device_count():
            return
        raise ValueError(f"no device {device!r}: this machine has {torch.cuda.device_count()} GPUs that torch can use")
    raise ValueError(f"unknown device {device!r}; expected auto, cpu, cuda, cuda:0 or two of them with a comma between")
