"""What a workspace no longer needs, shown or deleted: `python -m flows.collect --help`."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_table_artifact
from pydantic import Field

from flows.command_line import run
from tasks.collect import CollectRecord, delete_unneeded, find_unneeded, pin_artefacts
from tasks.workspace import DEFAULT_WORKSPACE, locked


@flow(flow_run_name="collect {workspace}")
def collect(
    keep: Annotated[int, Field(gt=0)] = 3,
    pin: list[Path] | None = None,
    delete: bool = False,
    workspace: Path = DEFAULT_WORKSPACE,
) -> CollectRecord:
    """Say which artefacts nothing needs any more and how many bytes they take; with `delete`, delete them.

    What stays: networks and sets of shards of which there is no newer version; what the latest rows of error_rates and the
    current report pages show; the last generations of each champion, with their images; what is pinned or unfinished; all
    that these were made from, and predictions, features and codes made from these.

    Args:
        keep: How many generations of each champion stay.
        pin: Artefacts, or files in them, that are never deleted; pinned.txt in the workspace remembers them.
        delete: Whether to delete. Otherwise nothing is changed.
        workspace: Folder to look through.
    """
    with locked(workspace) as made_in:
        if pin:
            pin_artefacts(pin, made_in)
        record = find_unneeded(keep, made_in)
        create_table_artifact(record.kinds, key="collected", description=record.summary)
        return delete_unneeded(record) if delete else record


if __name__ == "__main__":
    run(collect)
