"""Who is the champion, since when and why, and the way back: `python -m flows.champion --help`."""

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import BaseModel, ConfigDict, Field

from base.errors import InputError
from flows.command_line import run
from model.retraining.history import Champion, read_champions
from model.retraining.rendering import champions_as_text
from tasks.champions import NAME, restore, roll_back
from tasks.progress import run_log
from tasks.workspace import DEFAULT_WORKSPACE, locked


class ChampionRecord(BaseModel):
    """The generations of a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generations: list[Champion]
    folder: Path

    def __str__(self) -> str:
        return f"{champions_as_text(self.generations)}\n\n{self.folder}"


@flow(flow_run_name="champion {name}")
def champion(
    name: Annotated[str, Field(pattern=NAME)] = "folder",
    to: Annotated[int, Field(gt=0)] | None = None,
    reason: str | None = None,
    workspace: Path = DEFAULT_WORKSPACE,
) -> ChampionRecord:
    """Show the generations of a champion, or go back to an earlier one.

    Args:
        name: Of the champion.
        to: The generation whose network becomes the champion again, as a new generation. What the present champion was made
            from is not trained again.
        reason: Why; it is written into the history.
        workspace: Folder for everything that is made.
    """
    if (to is None) != (reason is None):
        raise InputError("to go back, give both the generation and a reason: --to 2 --reason 'wrong labels in May'")
    with locked(workspace, wait=run_log().info) as made_in:
        restore(name, made_in)
        if to is not None and reason is not None:
            roll_back(name, to, reason, made_in)
        found = read_champions(made_in.tables, name)
        if not found:
            raise InputError(f"{made_in.path} has no champion {name}; make one with python -m flows.retrain --name {name}")
        return ChampionRecord(generations=found, folder=made_in.path / "champions" / name)


if __name__ == "__main__":
    run(champion)
