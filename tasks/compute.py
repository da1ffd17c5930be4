"""On which devices networks are trained and tested, in which layout, and how many side by side."""

import os
from typing import Any

from pydantic import BaseModel, ConfigDict

from base.errors import InputError
from tasks.jobs.train import Layout


class Compute(BaseModel):
    """Where arithmetic is done."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    devices: tuple[str, ...]
    """One for a whole network, two for a tower each, or any number for a replica each."""
    layout: Layout = "towers"
    """How a network is placed on them."""
    num_threads: int
    """CPU threads per process that trains."""
    at_once: int
    """Networks trained at the same time."""
    num_machines: int = 1
    """On each of which a network that is trained has replicas on these devices."""
    endpoint: str | None = None
    """`HOST:PORT` of the first machine, at which the others meet it."""

    @property
    def kinds(self) -> list[str]:
        """`cpu` or `cuda` of each device; what the last bits of a result depend on."""
        return [device.split(":")[0] for device in self.devices]

    @property
    def gpus(self) -> list[int]:
        """Numbers of the GPUs among the devices."""
        return sorted({int(device.partition(":")[2] or 0) for device in self.devices if device.startswith("cuda")})

    def shared(self, cluster: str | None) -> dict[str, Any]:
        """Return the kind of device, and the devices and CPU threads of the processes that share a job.

        On a cluster a process has the first device that its worker sees, and as many threads as its worker says.
        """
        if cluster is not None:
            return {"device": self.kinds[0], "devices": (self.kinds[0],), "num_threads": None}
        threads = max(1, processors() // len(self.devices))
        return {"device": self.kinds[0], "devices": self.devices, "num_threads": threads}


def choose_compute(
    device: str,
    threads_per_network: int | None,
    layout: Layout | None = None,
    num_machines: int = 1,
    endpoint: str | None = None,
) -> Compute:
    """Understand `auto`, one device, or several with commas between them.

    Networks share a CPU as their threads allow, and take turns on GPUs. Without a layout a network is in one piece on one GPU,
    has its towers on two devices, and replicas on more or on several machines.

    Raises:
        InputError: no such device here, no such layout on these devices, or several machines without an endpoint.
    """
    name = ("cuda" if _num_gpus() else "cpu") if device == "auto" else device
    devices = tuple(part.strip() for part in name.split(","))
    for part in devices:
        _check(part)
    layout = layout or ("replicas" if num_machines > 1 else _usual_layout(devices))
    _check_machines(num_machines, endpoint, layout)
    if len(devices) > 2 and layout != "replicas":
        raise InputError(f"{len(devices)} devices in {device!r}; the network has two towers: give one or two, or replicas")
    if len(devices) > 1 and layout == "one-piece":
        raise InputError(f"{len(devices)} devices in {device!r}; a network in one piece needs one: give one, or another layout")
    threads = min(threads_per_network or processors(), processors())
    on_cpu = set(devices) == {"cpu"}
    at_once = processors() // threads if on_cpu else 1
    if layout == "replicas":
        threads, at_once = max(1, processors() // len(devices)), 1
    return Compute(
        devices=devices, layout=layout, num_threads=threads, at_once=at_once, num_machines=num_machines, endpoint=endpoint
    )


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def _num_gpus() -> int:
    import torch  # here, since it takes a second that sharding should not wait for

    return torch.cuda.device_count()


def _usual_layout(devices: tuple[str, ...]) -> Layout:
    if len(devices) > 2:
        return "replicas"
    # On a CPU the towers are fastest one after the other (docs/performance.md); a GPU has half as many kernels to start.
    return "one-piece" if len(devices) == 1 and devices[0] != "cpu" else "towers"


def _check_machines(number: int, endpoint: str | None, layout: Layout) -> None:
    if (number > 1) != (endpoint is not None):
        raise InputError(
            f"{number} machines and the endpoint {endpoint}; give both or neither: --machines 2 --endpoint HOST:29500"
        )
    if endpoint is not None and not endpoint.rpartition(":")[2].isdigit():
        raise InputError(f"the endpoint {endpoint} has no port; expected HOST:PORT, such as {endpoint}:29500")
    if number > 1 and layout != "replicas":
        raise InputError(f"{number} machines with the layout {layout}; only replicas train on several")


def _check(device: str) -> None:
    kind, _, index = device.partition(":")
    if kind == "cpu" and not index:
        return
    if kind == "cuda" and (not index or index.isdigit()):
        if int(index or 0) < _num_gpus():
            return
        raise InputError(f"no device {device!r}: this machine has {_num_gpus()} GPUs that torch can use")
    raise InputError(f"unknown device {device!r}; expected auto, cpu, cuda, cuda:0 or several of them with commas between")
