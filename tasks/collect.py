"""What a workspace no longer needs: found, shown, and deleted if that was asked for.

Called by `flows.collect` under the lock of the workspace, so no run is at work in it. `tasks.inventory` says what is needed.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
from prefect import task
from pydantic import BaseModel, ConfigDict

from base.errors import InputError
from base.files import sync, write_text
from model.evaluation.schemas import ERROR_RATES, upgrade
from model.evaluation.selection import latest
from model.retraining.history import Champion, read_champions, read_retrainings
from tasks.inventory import Entry, Inventory, take_inventory
from tasks.progress import run_log
from tasks.workspace import Workspace

PINNED = "pinned.txt"
"""In the workspace: a path per line, below the workspace; what is there is never deleted. A line can be a comment (#)."""
COLLECTED = ".collected"
"""In the workspace: what is being deleted. It is renamed into this folder first, so nothing half deleted looks finished."""
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


class Unneeded(BaseModel):
    """An artefact that is not needed, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: Path
    kind: str
    num_bytes: int
    """Of its files, those apart that have a second name elsewhere."""
    reason: str


class CollectRecord(BaseModel):
    """What goes, and what stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    workspace: Path
    unneeded: list[Unneeded]
    """The newest first, so that what something was made from comes after it."""
    left_over: int
    """Bytes that a collection that was killed has left."""
    bytes_kept: int
    num_kept: int
    deleted: bool = False

    @property
    def num_bytes(self) -> int:
        """What deleting frees."""
        return self.left_over + sum(one.num_bytes for one in self.unneeded)

    @property
    def kinds(self) -> list[dict[str, str | int]]:
        """How many artefacts of each kind go, and their bytes."""
        counts, sizes = Counter[str](), Counter[str]()
        for one in self.unneeded:
            counts[one.kind] += 1
            sizes[one.kind] += one.num_bytes
        if self.left_over:
            sizes["left by a killed collection"] = self.left_over
        return [{"kind": kind, "artefacts": counts[kind], "bytes": sizes[kind]} for kind in sorted(sizes)]

    def __str__(self) -> str:
        shown = [f"{as_bytes(one.num_bytes):>9}  {one.path.relative_to(self.workspace)}  {one.reason}" for one in self.unneeded]
        kinds = [f"{as_bytes(int(row['bytes'])):>9}  {row['kind']}, {row['artefacts']:,}" for row in self.kinds]
        return "\n".join([*shown, "", *kinds, "", self.summary] if kinds else [self.summary])

    @property
    def summary(self) -> str:
        """What goes and what stays, in a line."""
        kept = f"{self.num_kept:,} artefacts stay, {as_bytes(self.bytes_kept)}"
        if not self.kinds:
            return f"nothing to delete; {kept}"
        what = f"{len(self.unneeded):,} artefacts, {as_bytes(self.num_bytes)}"
        if self.deleted:
            return f"deleted: {what}; {kept}"
        return f"{what} are not needed and were not deleted, see --delete; {kept}"


@task(task_run_name="look for what is not needed")
def find_unneeded(keep: int, workspace: Workspace) -> CollectRecord:
    """Return what nothing needs any more; `keep` is the number of generations of each champion that stay.

    Raises:
        InputError: a manifest or a table cannot be read, or an artefact is pinned that does not exist.
    """
    entries = take_inventory(workspace.path)
    champions = read_champions(workspace.tables)
    names = {row["name"] for row in read_retrainings(workspace.tables)} | {one.name for one in champions}
    inventory = Inventory(entries, names)
    generations = [one for name in names for one in _last(champions, name, keep)]
    digests = [
        *_named_by_rows(inventory, workspace),
        *(digest for one in generations for digest in (one.weights, *one.siblings, one.data_version, one.eval_set)),
    ]
    paths = {*_pinned(entries, workspace), *_shown_pages(entries, workspace), *_being_written(entries)}
    needed = inventory.needed(digests, paths)
    gone = [entry for entry in reversed(entries) if entry.path not in needed]
    return CollectRecord(
        workspace=workspace.path,
        unneeded=[
            Unneeded(path=entry.path, kind=entry.kind, num_bytes=_bytes(entry.path), reason=_reason(entry, inventory, needed))
            for entry in gone
        ],
        left_over=_bytes(workspace.path / COLLECTED),
        bytes_kept=sum(_bytes(path) for path in needed),
        num_kept=len(needed),
    )


@task(task_run_name="delete {record.num_bytes} bytes")
def delete_unneeded(record: CollectRecord) -> CollectRecord:
    """Delete what was found. If this is killed, what is left is whole, and the next collection deletes it."""
    trash = record.workspace / COLLECTED
    _remove(trash)
    for one in record.unneeded:  # before what it was made from
        place = trash / one.path.relative_to(record.workspace)
        place.parent.mkdir(parents=True, exist_ok=True)
        one.path.rename(place)
        sync(one.path.parent)
        _remove(place)
        _remove_empty(one.path.parent, record.workspace)
    _remove(trash)
    return record.model_copy(update={"deleted": True})


@task(task_run_name="pin {paths}")
def pin_artefacts(paths: Sequence[Path], workspace: Workspace) -> None:
    """Add artefacts to `pinned.txt`.

    Raises:
        InputError: a path is not in an artefact of the workspace.
    """
    entries = take_inventory(workspace.path)
    file = workspace.path / PINNED
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    for path in paths:
        pinned = _artefact_at(path.expanduser().absolute(), entries, workspace)
        line = str(pinned.relative_to(workspace.path))
        lines += [line] if line not in lines else []
        run_log().info("pinned %s; to let it go, remove its line in %s", line, file)
    write_text(file, "".join(f"{line}\n" for line in lines))


def as_bytes(count: int) -> str:
    """Return `4.1 GB`."""
    size, unit = float(count), 0
    while size >= 999.5 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {UNITS[unit]}"


def _last(champions: Sequence[Champion], name: str, keep: int) -> list[Champion]:
    return sorted((one for one in champions if one.name == name), key=lambda one: one.generation)[-keep:]


def _named_by_rows(inventory: Inventory, workspace: Workspace) -> Iterator[str]:
    """Networks and images of the latest rows of `error_rates`. Networks of retrainings stay by their generation only."""
    path = workspace.tables / "error_rates.parquet"
    rows = latest(upgrade(pq.read_table(path), ERROR_RATES)).to_pylist() if path.exists() else []
    for row in rows:
        members = row["members"] or []
        folders = {inventory.named[digest].path.parent for digest in members if digest in inventory.named}
        if row["source"] == "measured" and not folders & inventory.retrained:
            yield from (*members, row["shards"])


def _shown_pages(entries: Sequence[Entry], workspace: Workspace) -> Iterator[Path]:
    """The pages to which `report/NAME.html` leads."""
    for entry in entries:
        pointer = entry.path.parent.with_name(f"{entry.path.parent.name}.html")
        if entry.path.is_relative_to(workspace.path / "report") and pointer.exists() and entry.path.name in pointer.read_text():
            yield entry.path


def _being_written(entries: Sequence[Entry]) -> Iterator[Path]:
    """Unfinished artefacts that a worker without a run is at work on: one of a cluster, or one that was started by hand."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            commands.append((process / "cmdline").read_bytes().decode(errors="replace"))
    for entry in entries:
        if not entry.digests and any(str(entry.path) in command for command in commands):
            yield entry.path


def _pinned(entries: Sequence[Entry], workspace: Workspace) -> Iterator[Path]:
    file = workspace.path / PINNED
    for line in file.read_text("utf-8").splitlines() if file.exists() else []:
        if line.strip() and not line.startswith("#"):
            yield _artefact_at(workspace.path / line.strip(), entries, workspace)


def _artefact_at(path: Path, entries: Sequence[Entry], workspace: Workspace) -> Path:
    """The artefact at a path or around it."""
    for entry in entries:
        if path.resolve().is_relative_to(entry.path.resolve()):
            return entry.path
    raise InputError(
        f"{path} is pinned but is not in an artefact of {workspace.path}; expected a path such as runs/NAME/KEY. "
        f"If it is gone on purpose, remove its line in {workspace.path / PINNED}"
    )


def _reason(entry: Entry, inventory: Inventory, needed: set[Path]) -> str:
    if entry.key is None:
        return "unfinished, nothing to resume"
    if (newer := inventory.successor(entry)) is not None:
        if entry.path.parent in inventory.retrained and entry.digests:
            return "of no generation that is kept"
        return f"superseded by {newer.path.name}" if entry.digests else f"unfinished, superseded by {newer.path.name}"
    lost = [one for inputs in inventory.inputs(entry).values() for one in inputs if one.path not in needed]
    return f"made from {lost[0].kind} {lost[0].path.name}" if lost else "made from a network that others started from"


def _bytes(path: Path) -> int:
    """What deleting a folder frees: a file with another name elsewhere, such as a champion's weights, frees nothing."""
    status = [file.lstat() for file in path.rglob("*") if not file.is_dir()]
    return sum(file.st_size for file in status if file.st_nlink == 1)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _remove_empty(folder: Path, workspace: Path) -> None:
    """Remove a folder of the workspace, and those around it, as far as they are empty."""
    while folder != workspace and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
