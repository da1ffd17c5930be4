"""One network by several replicas: `python -m tasks.workers.replicas JOB.json`: `tasks.workers.train` on each device.

This process is torchrun's agent. It stops all replicas where one fails, and none outlives it.
"""

import logging
import os
import signal
import sys
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from tasks.workers.guard import EXIT_BAD_INPUT, run_worker
from tasks.workers.jobs import CHECKPOINTS, TrainJob


def main(job_path: Path) -> None:
    """Run the replicas to their end."""
    job = TrainJob.model_validate_json(job_path.read_bytes())
    os.environ["OMP_NUM_THREADS"] = str(job.num_threads)
    logging.disable(logging.ERROR)  # what torchrun says of an end is said below, once
    here = ["--standalone", f"--nproc-per-node={len(job.devices)}", f"--log-dir={job_path.parent / CHECKPOINTS / 'torchrun'}"]
    try:
        run.main([*here, "--module", "tasks.workers.train", str(job_path)])
    except SignalException as stopped:
        signal.signal(stopped.sigval, signal.SIG_DFL)
        os.kill(os.getpid(), stopped.sigval)
    except ChildFailedError as failed:
        rank, first = failed.get_first_failure()
        if first.exitcode != EXIT_BAD_INPUT:
            how = f"was killed by signal {-first.exitcode}" if first.exitcode < 0 else f"ended with code {first.exitcode}"
            print(f"replica {rank} of {len(job.devices)} {how}; the others were stopped", flush=True)
        sys.exit(first.exitcode if first.exitcode > 0 else 1)


if __name__ == "__main__":
    run_worker(main)
