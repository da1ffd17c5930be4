"""Several processes that train one network: each has a replica of it and its part of each batch. Started by torchrun.

A process on its own is a replica of one, for which nothing here does anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Replicas:
    """This process among those that share the training."""

    rank: int = 0
    num: int = 1
    local_rank: int = 0
    """Among those on this machine."""

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes for all."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a module whose gradients are the means over all replicas; all begin with the first one's parameters."""
        return DistributedDataParallel(network, gradient_as_bucket_view=True) if self.num > 1 else network

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is up in any replica. All must ask at the same time."""
        return [value > 0 for value in self.sum(*flags)]

    def sum(self, *values: float) -> list[float]:
        """Return the values' sums over all replicas, to the last bit of a float64. All must ask at the same time."""
        if self.num == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)  # on the CPU, so that no GPU has to wait
        distributed.all_reduce(total)
        return list(total.tolist())


@contextmanager
def joined() -> Iterator[Replicas]:
    """Join the other replicas where torchrun has started some; NCCL carries tensors of GPUs, gloo those of CPUs."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Replicas()
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Replicas(distributed.get_rank(), distributed.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        distributed.destroy_process_group()
