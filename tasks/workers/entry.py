"""How a worker reads its job: `python -m tasks.workers.NAME JOB.json [SHARE]`, with a share such as `3/8`.

Its results go into the folder of the job file; the counts that it returns are written last, and a job that has its counts is
finished.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from base.errors import InputError
from base.files import write_text
from base.progress import Part, Progress
from tasks.job import COUNTS, JOB, WORK, Job, Share
from tasks.workers.guard import guarded

J = TypeVar("J", bound=Job)
Counts = dict[str, int]


def run_worker(job_type: type[J], work: Callable[[J, Path, Progress, Share], Counts | None]) -> None:
    """Do the work of one job after the other; a stage that is not the last one returns no counts."""

    def on_one(jobs: Mapping[Path, J], progress: Progress, share: Share) -> None:
        for number, (directory, job) in enumerate(jobs.items()):
            counts = work(job, directory, Part(progress, number, len(jobs)), share)
            if counts is not None:
                finish(directory, counts)

    run_together(job_type, on_one)


def run_together(job_type: type[J], work: Callable[[Mapping[Path, J], Progress, Share], None]) -> None:
    """Do the work of several jobs at once: each with its folder."""
    guarded(lambda: _run(job_type, work))


def finish(directory: Path, counts: Counts) -> None:
    """Write the counts of a job: it is finished."""
    write_text(directory / COUNTS, json.dumps(counts))


class _NoPandas(MetaPathFinder):
    """Keeps pyarrow from importing pandas when it first converts a Python list: half a second and 60 MB."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Refuse pandas; leave every other module to the usual finders."""
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError("a light worker runs without pandas", name=fullname)


def _run(job_type: type[J], work: Callable[[Mapping[Path, J], Progress, Share], None]) -> None:
    if not {"pandas", "torch"} & sys.modules.keys():  # a light worker
        sys.meta_path.insert(0, _NoPandas())
    files, share = _arguments(sys.argv[1:])
    jobs = {file.parent: job_type.model_validate_json(file.read_bytes()) for file in files}
    for directory in jobs:
        (directory / WORK).mkdir(exist_ok=True)
    work({path: job for path, job in jobs.items() if not (path / COUNTS).exists()}, Progress(), share)


def _arguments(arguments: list[str]) -> tuple[list[Path], Share]:
    share = Share()
    if arguments and "/" in arguments[-1] and arguments[-1].replace("/", "").isdigit():
        *arguments, last = arguments
        share = Share(*map(int, last.split("/")))
    files = [Path(argument).absolute() for argument in arguments]
    if not files or not all(file.is_file() for file in files):
        raise InputError(
            f"found {' '.join(arguments) or 'no arguments'}; expected the path of a {JOB}, then a share such as 0/2"
        )
    return files, share
