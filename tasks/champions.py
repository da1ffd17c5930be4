"""The champion of a name: who it is, the commit of a retraining, and the folder that shows its weights.

`tables/champions.parquet` decides who is the champion. A retraining that promotes is committed when the row of its champion is
in that file: one rename. Everything else follows from it, and the next run makes up for what a killed run has left out: the
row of `retrainings.parquet`, which waits in a note since before the commit, and the folder `champions/NAME`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from prefect import task

from base.errors import InputError
from base.files import sync, write_text
from model.evaluation.parquet import write_whole
from model.evaluation.schemas import Row
from model.reporting.card import model_card
from model.retraining.history import CHAMPIONS_FILE, RETRAININGS_FILE, Champion, append, read_champions, read_retrainings
from model.retraining.rendering import card_sections
from model.retraining.schemas import RETRAININGS
from tasks.artifacts import MANIFEST, read_manifest
from tasks.job import Artifact, Weights
from tasks.jobs.train import WEIGHTS
from tasks.tabulate import run_id
from tasks.train import open_weights
from tasks.workspace import Workspace, check_writable

CARD = "README.md"
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
"""Of a champion: a folder, and part of the key of an artifact in Prefect."""


@contextmanager
def claimed(name: str, workspace: Path) -> Iterator[bool]:
    """Hold a name for a retraining; yield whether no other one holds it.

    Raises:
        InputError: the workspace cannot be written to.
    """
    folder = workspace.expanduser().absolute() / "champions"
    check_writable(folder)
    lock = FileLock(folder / f".{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@task(task_run_name="restore {name}")
def restore(name: str, workspace: Workspace) -> None:
    """Make up for what a killed run has left out after its commit, and drop what it had not committed."""
    note = _note(name, workspace)
    if note.exists():
        rows = pq.read_table(note).to_pylist()
        ids = {row["retraining_id"] for row in rows}
        committed = ids & {one.retraining_id for one in read_champions(workspace.tables, name)}
        written = {row["retraining_id"] for row in read_retrainings(workspace.tables, name)}
        append(workspace.tables, RETRAININGS_FILE, [row for row in rows if row["retraining_id"] in committed - written])
        note.unlink()
    show_champion(name, workspace)


@task(task_run_name="commit {row[decision]}")
def commit(row: Row, champion: Champion | None, workspace: Workspace) -> None:
    """Write a row of `retrainings.parquet`, and before it that of the new champion if there is one."""
    note = _note(row["name"], workspace)
    if champion is not None:
        write_whole(note, [RETRAININGS.empty_table().from_pylist([row], schema=RETRAININGS)], RETRAININGS)
        append(workspace.tables, CHAMPIONS_FILE, [champion.row])  # the commit
    append(workspace.tables, RETRAININGS_FILE, [row])
    if champion is not None:
        note.unlink()
        show_champion(row["name"], workspace)


@task(task_run_name="roll {name} back to {generation}")
def roll_back(name: str, generation: int, reason: str, workspace: Workspace) -> Champion:
    """Make an earlier generation the champion, as a new generation, and veto what the present one was made from.

    Raises:
        InputError: no such generation, it is the champion already, or its weights are gone.
    """
    champions = read_champions(workspace.tables, name)
    known = {one.generation: one for one in champions}
    if generation not in known:
        there = f"it has {', '.join(map(str, known))}" if known else "it has none"
        raise InputError(f"{name} has no generation {generation} to go back to; {there}")
    now, earlier = champions[-1], known[generation]
    if earlier.weights == now.weights:
        raise InputError(f"generation {generation} of {name} has the weights of its champion, generation {now.generation}")
    find_weights(earlier.weights, name, workspace)
    champion = replace(
        earlier,
        generation=now.generation + 1,
        since=datetime.now(UTC),
        cause="rollback",
        reason=f"back to generation {generation}: {reason}",
        vetoed=now.key,
        run_id=run_id(),
    )
    append(workspace.tables, CHAMPIONS_FILE, [champion.row])  # the commit
    show_champion(name, workspace)
    return champion


def show_champion(name: str, workspace: Workspace) -> None:
    """Fill the folder `champions/NAME` with the weights of the champion and its model card, unless it holds them."""
    champions = read_champions(workspace.tables, name)
    if not champions:
        return
    champion, folder = champions[-1], workspace.path / "champions" / name
    weights = find_weights(champion.weights, name, workspace)
    card = _card(champion, workspace)
    beside, before = (folder.with_name(f".{name}.{kind}") for kind in ("partial", "old"))
    shutil.rmtree(before, ignore_errors=True)
    shutil.rmtree(beside, ignore_errors=True)
    shown = folder / WEIGHTS
    if (folder / CARD).is_file() and (folder / CARD).read_text("utf-8") == card and _digest(shown) == champion.weights:
        return
    beside.mkdir(parents=True)
    try:
        os.link(weights.path, beside / WEIGHTS)
    except OSError:  # a disk that knows no hard links
        shutil.copyfile(weights.path, beside / WEIGHTS)
        sync(beside / WEIGHTS)
    write_text(beside / CARD, card)
    if folder.exists():
        folder.rename(before)
    beside.rename(folder)
    sync(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def find_weights(digest: str, name: str, workspace: Workspace) -> Weights:
    """Return the weights file with this SHA-256, of a run or of the champion's folder.

    Raises:
        InputError: there is none.
    """
    for manifest in workspace.path.glob(f"runs/*/*/{MANIFEST}"):
        entry = read_manifest(manifest.parent).files.get(WEIGHTS)
        if entry is not None and entry.sha256 == digest and not manifest.parent.name.endswith(".partial"):
            return Weights(path=manifest.with_name(WEIGHTS), digest=digest)
    shown = workspace.path / "champions" / name / WEIGHTS
    if _digest(shown) == digest:
        return Weights(path=shown, digest=digest)
    raise InputError(
        f"no run in {workspace.path / 'runs'} holds the weights {digest[:12]} of {name}; "
        f"restore it, or retrain under another name"
    )


def find_set(digest: str, workspace: Workspace) -> Artifact:
    """Return the set of shards with this digest.

    Raises:
        InputError: there is none.
    """
    for path in workspace.path.glob(f"shards/*/*/*/{MANIFEST}"):
        if path.parent.name.endswith(".partial"):
            continue
        manifest = read_manifest(path.parent)
        if manifest.digest == digest:
            return Artifact(path=path.parent, digest=digest, counts=manifest.counts)
    raise InputError(
        f"{workspace.path / 'shards'} no longer holds the set {digest[:12]} that the champion was trained on, so it is unknown "
        f"what has changed since; restore it, or retrain under another name"
    )


def _digest(weights: Path) -> str | None:
    return open_weights(weights).digest if weights.is_file() else None


def _note(name: str, workspace: Workspace) -> Path:
    return workspace.path / "champions" / f".{name}.parquet"


def _card(champion: Champion, workspace: Workspace) -> str:
    path = workspace.tables / "error_rates.parquet"
    rows = pq.read_table(path, filters=[("source", "==", "measured")]).to_pylist() if path.exists() else []
    same = ("dataset", "split", "labels", "classes", "views")
    latest = {tuple(row[name] for name in same): row for row in rows if row["members"] == [champion.weights]}
    return model_card(champion.name, list(latest.values()), card_sections(champion))
