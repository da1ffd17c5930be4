"""Hold GPUs while they are used: each has a Prefect global concurrency limit of one slot, so that two runs never share one.

A limit counts slots and does not choose devices, so each device has its own limit. Tasks that train or predict call this.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from tasks.progress import in_run, run_log


@contextmanager
def held(gpus: Sequence[int]) -> Iterator[None]:
    """Wait until these GPUs (torch's numbers) are free and hold them to the end of the block.

    The slot of a run that was killed is free after five minutes. Outside of runs and without GPUs, hold nothing.
    """
    if not gpus or not in_run():
        yield
        return
    names = [limit_name(number) for number in gpus]
    with get_client(sync_client=True) as client:
        for name in names:
            with suppress(ObjectAlreadyExists):  # another run has just created it
                client.upsert_global_concurrency_limit_by_name(name, limit=1)
    run_log().info("waiting until no other run holds %s", ", ".join(names))
    with concurrency(names, occupy=1, strict=True, raise_on_lease_renewal_failure=False):
        yield


def limit_name(number: int) -> str:
    """Return the name of the limit of a GPU: the machine and the GPU's own number, before `CUDA_VISIBLE_DEVICES`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f"gpu-{socket.gethostname()}-{visible.split(',')[number].strip() if visible else number}"
