"""One network by several replicas: `python -m tasks.workers.replicas JOB.json` runs `tasks.workers.train` on each device.

This process is the agent of torchrun: if one replica fails it stops the others, and no replica outlives it.
"""

import logging
import os
import signal
import sys
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from base.progress import Progress
from tasks.workers.guard import EXIT_BAD_INPUT, run_worker
from tasks.workers.jobs import TrainJob


def main(job: TrainJob, directory: Path, progress: Progress) -> None:
    """Run the replicas to the end; the first one writes the counts."""
    os.environ["OMP_NUM_THREADS"] = str(job.num_threads)
    logging.disable(logging.ERROR)  # torchrun's own words about a failure; it is reported below
    options = ["--standalone", f"--nproc-per-node={len(job.devices)}", f"--log-dir={directory / 'work' / 'torchrun'}"]
    try:
        run.main([*options, "--module", "tasks.workers.train", str(directory / "job.json")])
    except SignalException as stopped:
        signal.signal(stopped.sigval, signal.SIG_DFL)
        os.kill(os.getpid(), stopped.sigval)
    except ChildFailedError as failed:
        rank, first = failed.get_first_failure()
        if first.exitcode != EXIT_BAD_INPUT:
            how = f"was killed by signal {-first.exitcode}" if first.exitcode < 0 else f"ended with code {first.exitcode}"
            progress.say(f"replica {rank} of {len(job.devices)} {how}; the others were stopped")
        sys.exit(first.exitcode if first.exitcode > 0 else 1)


def _run(job_path: Path) -> None:
    main(TrainJob.model_validate_json(job_path.read_bytes()), job_path.parent, Progress())


if __name__ == "__main__":
    run_worker(_run)
