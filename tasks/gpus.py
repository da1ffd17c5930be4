"""GPUs are held while they are used: a Prefect global concurrency limit of one slot for each, so that two runs never share one.

A limit counts slots and does not choose devices, so each device has a limit of its own.
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
    """Hold these GPUs, by the numbers that torch gives them, to the end of the block; wait while another run has one.

    A slot whose holder was killed is free after five minutes. Outside of runs, and without GPUs, nothing is held.
    """
    if not gpus or not in_run():
        yield
        return
    names = [limit_name(number) for number in gpus]
    with get_client(sync_client=True) as client:
        for name in names:
            with suppress(ObjectAlreadyExists):  # another run has made it in the same moment
                client.upsert_global_concurrency_limit_by_name(name, limit=1)
    run_log().info("waiting for %s, if another run has it", ", ".join(names))
    with concurrency(names, occupy=1, strict=True, raise_on_lease_renewal_failure=False):
        yield


def limit_name(number: int) -> str:
    """Return the limit's name: the machine, and the GPU whatever `CUDA_VISIBLE_DEVICES` makes its number here."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return f"gpu-{socket.gethostname()}-{visible.split(',')[number].strip() if visible else number}"
