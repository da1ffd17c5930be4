"""One network by several replicas: torchrun starts `tasks.workers.train` once per device. Called by that worker.

On several machines, that worker runs on each, with the machine's number as its share: `JOB.json 1/2`. They meet at the job's
endpoint. See docs/cluster.md.
"""

import fcntl
import logging
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from torch.distributed import DistError, run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from base.errors import InputError
from base.progress import Progress
from tasks.job import JOB, WORK, Share
from tasks.jobs.train import TrainJob
from tasks.workers.guard import EXIT_BAD_INPUT

MINUTES_TO_MEET = 30
"""(ours)"""
SIOCGIFADDR = 0x8915
"""Asks Linux for the address of a network interface."""


def run_replicas(job: TrainJob, directory: Path, progress: Progress, share: Share) -> None:
    """Run the replicas of this machine to the end; the first of all writes the counts. If one fails, stop and exit like it.

    Raises:
        InputError: the machines did not meet.
    """
    os.environ["OMP_NUM_THREADS"] = str(job.num_threads)
    logging.disable(logging.ERROR)  # torchrun's messages about a failure, which is reported below
    options = [f"--nproc-per-node={len(job.devices)}", f"--log-dir={directory / WORK / 'torchrun'}"]
    options += ["--standalone"] if job.endpoint is None else _rendezvous(job, directory, progress, share)
    try:
        run.main([*options, "--module", "tasks.workers.train", str(directory / JOB)])
    except DistError as error:
        if job.endpoint is None:
            raise
        raise InputError(
            f"the {job.num_machines} machines did not meet at {job.endpoint} within {MINUTES_TO_MEET} minutes "
            f"({str(error).partition(chr(10))[0]}); start the same job on each"
        ) from error
    except SignalException as stopped:
        signal.signal(stopped.sigval, signal.SIG_DFL)
        os.kill(os.getpid(), stopped.sigval)
    except ChildFailedError as failed:
        rank, first = failed.get_first_failure()
        if first.exitcode != EXIT_BAD_INPUT:
            how = f"was killed by signal {-first.exitcode}" if first.exitcode < 0 else f"ended with code {first.exitcode}"
            progress.say(f"replica {rank} of {len(job.devices) * job.num_machines} {how}; the others were stopped")
        sys.exit(first.exitcode if first.exitcode > 0 else 1)


def _rendezvous(job: TrainJob, directory: Path, progress: Progress, share: Share) -> list[str]:
    """Return torchrun's options for a job of several machines, of which this is the `share.number`-th."""
    if share.total not in (1, job.num_machines):
        raise InputError(f"found {share.total} machines, the job has {job.num_machines}; expected a share such as 1/2")
    if share.number == 0:
        command = f"python -m tasks.workers.train {directory / JOB} NUMBER/{job.num_machines}"
        progress.say(f"waiting at {job.endpoint} for {job.num_machines - 1} more machines; run on each: {command}")
    if name := _interface(str(job.endpoint)):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    return [
        f"--nnodes={job.num_machines}",
        f"--node-rank={share.number}",
        "--rdzv-backend=static",
        f"--rdzv-endpoint={job.endpoint}",
        f"--rdzv-id={directory.name}",  # machines with different jobs do not meet
        f"--rdzv-conf=timeout={60 * MINUTES_TO_MEET}",
    ]


def _interface(endpoint: str) -> str | None:
    """Return the network interface that leads to the endpoint; gloo would take that of the machine's name, often loopback."""
    host, _, port = endpoint.rpartition(":")
    with suppress(OSError, ValueError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        own = socket.inet_aton(probe.getsockname()[0])
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                if fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))[20:24] == own:
                    return name
    return None
