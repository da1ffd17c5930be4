"""Finished shards, read again: `python -m flows.verify --help`."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field

from base.errors import InputError
from flows.command_line import run
from tasks.job import Artifact
from tasks.verify import SetReport, find_duplicates, find_sets, name_of, verify_set
from tasks.workspace import DEFAULT_WORKSPACE, locked


class VerifyRecord(BaseModel):
    """What was found in each set, and the list of equal images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reports: list[SetReport]
    duplicates: Artifact

    def __str__(self) -> str:
        return "\n".join([*map(str, self.reports), "", f"{self.duplicates.path / 'duplicates.parquet'}", f"{self.duplicates}"])


@flow(flow_run_name="verify {workspace}")
def verify(
    shards: list[Path] | None = None,
    decode: bool = False,
    workers: Annotated[int, Field(gt=0)] | None = None,
    cluster: str | None = None,
    workspace: Path = DEFAULT_WORKSPACE,
) -> VerifyRecord:
    """Read sets of shards again, compare them with their manifests, and look for images that occur more than once.

    Args:
        shards: Folders of finished sets. Default: all in the workspace.
        decode: Whether every image is decoded too.
        workers: Processes that read. Default: one per processor.
        cluster: Address of a Dask scheduler, tcp://HOST:8786, whose workers do the work instead.
        workspace: Folder for everything that is made.
    """
    with locked(workspace, cluster=cluster) as made_in:
        sets = [path.expanduser().absolute() for path in shards or []] or find_sets(made_in)
        if not sets:
            raise InputError(f"{made_in.path} holds no finished set of shards; make one with python -m flows.shard")
        reports = [verify_set(path, decode, workers, made_in) for path in sets]
        create_table_artifact([_cells(report) for report in reports], key="verified", description="Shards read again")
        if damaged := [str(report) for report in reports if report.faults]:
            raise InputError("\n".join(["what was read is not what was written:", *damaged]))
        # Of two sets of one split, such as in two storages, the newest stands for both.
        return VerifyRecord(reports=reports, duplicates=find_duplicates({name_of(path): path for path in sets}, made_in))


def _cells(report: SetReport) -> dict[str, str]:
    images, shards = (f"{report.counts[name]:,}" for name in ("images", "shards"))
    return {"set": report.name, "images": images, "shards": shards, "faults": "; ".join(report.faults) or "none"}


if __name__ == "__main__":
    run(verify)
