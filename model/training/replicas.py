"""Several processes that train one network: each has a replica of it and its part of each batch. torchrun starts them.

A process on its own is one replica of one; then nothing here has an effect.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from base.errors import InputError

GLOO = ("gloo", "pair closure")
"""What an error of gloo, which has no type of its own, says."""


@dataclass(frozen=True)
class Replicas:
    """The place of this process among those that share the training."""

    rank: int = 0
    num: int = 1
    local_rank: int = 0
    """The rank on this machine."""

    @property
    def first(self) -> bool:
        """Whether this is the replica that reports and writes files for all."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a module whose gradients are averaged over all replicas; all start with the parameters of the first."""
        return DistributedDataParallel(network, gradient_as_bucket_view=True) if self.num > 1 else network

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in any replica. All replicas must call this together."""
        return [value > 0 for value in self.sum(*flags)]

    def sum(self, *values: float) -> list[float]:
        """Return the sum of each value over all replicas, in float64. All replicas must call this together."""
        if self.num == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)  # on the CPU, so that no GPU waits
        distributed.all_reduce(total)
        return list(total.tolist())


@contextmanager
def joined(silent_minutes: float = 5.0) -> Iterator[Replicas]:
    """Join the other replicas, if torchrun started this process; NCCL is for tensors on GPUs, gloo for those on CPUs.

    Raises:
        InputError: another replica was lost: its process or its machine ended, or did not answer for some minutes.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Replicas()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(minutes=silent_minutes))
    try:
        yield Replicas(distributed.get_rank(), distributed.get_world_size(), int(os.environ["LOCAL_RANK"]))
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not any(word in str(error) for word in GLOO):
            raise
        lost = InputError(
            f"another replica was lost: its process or its machine ended, or was silent for {silent_minutes:g} minutes; "
            f"start the training again, on all its machines, to resume it"
        )
        for note in getattr(error, "__notes__", []):
            lost.add_note(note)
        raise lost from error
    finally:
        distributed.destroy_process_group()
