"""One network by several replicas: torchrun starts `tasks.workers.train` once per device. Called by that worker."""

import logging
import os
import signal
import sys
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from base.progress import Progress
from tasks.job import JOB, WORK
from tasks.jobs.train import TrainJob
from tasks.workers.guard import EXIT_BAD_INPUT


def run_replicas(job: TrainJob, directory: Path, progress: Progress) -> None:
    """Run the replicas to the end; the first one writes the counts. If one fails, stop the others and exit like it."""
    os.environ["OMP_NUM_THREADS"] = str(job.num_threads)
    logging.disable(logging.ERROR)  # torchrun's messages about a failure, which is reported below
    options = ["--standalone", f"--nproc-per-node={len(job.devices)}", f"--log-dir={directory / WORK / 'torchrun'}"]
    try:
        run.main([*options, "--module", "tasks.workers.train", str(directory / JOB)])
    except SignalException as stopped:
        signal.signal(stopped.sigval, signal.SIG_DFL)
        os.kill(os.getpid(), stopped.sigval)
    except ChildFailedError as failed:
        rank, first = failed.get_first_failure()
        if first.exitcode != EXIT_BAD_INPUT:
            how = f"was killed by signal {-first.exitcode}" if first.exitcode < 0 else f"ended with code {first.exitcode}"
            progress.say(f"replica {rank} of {len(job.devices)} {how}; the others were stopped")
        sys.exit(first.exitcode if first.exitcode > 0 else 1)
