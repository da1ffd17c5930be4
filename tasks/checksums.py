"""Archives compared with the MD5s that were published for them, each once."""

import re
from pathlib import Path

from prefect import task

from base.errors import InputError
from data_shards.datasets.finding import identity
from tasks.job import Artifact, External
from tasks.jobs.checksum import ChecksumJob
from tasks.make import make
from tasks.workspace import Workspace


@task(task_run_name="MD5 of archives")
def check_md5(archives: Path, md5: Path, workspace: Workspace) -> list[Artifact]:
    """Compare the files of a folder with a list as md5sum writes it: `checksums/<name>/<key>`.

    Raises:
        InputError: a file differs, none is named in the list, or it is not such a list.
    """
    known = read_md5(md5)
    named = [path for path in sorted(archives.expanduser().absolute().iterdir()) if path.name in known]
    if not named:
        raise InputError(f"{md5} names no file of {archives}; it names {', '.join(sorted(known))}")
    jobs = [ChecksumJob(archive=External(values=identity(path)), path=path, md5=known[path.name]) for path in named]
    return make(jobs, workspace)


def read_md5(path: Path) -> dict[str, str]:
    """Return the MD5 of each file name in a list as md5sum writes it.

    Raises:
        InputError: it cannot be read or is not such a list.
    """
    try:
        pairs = [line.split(maxsplit=1) for line in path.expanduser().read_text("utf-8").splitlines() if line.strip()]
        known = {Path(name.strip().lstrip("*")).name: digest.lower() for digest, name in pairs}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a list of MD5s ({error}); expected lines as md5sum writes them") from error
    if not known or not all(re.fullmatch("[0-9a-f]{32}", digest) for digest in known.values()):
        raise InputError(
            f"{path} is not a list of MD5s; expected lines as md5sum writes them: 32 digits, two spaces, a file name"
        )
    return known
