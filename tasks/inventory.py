"""What a workspace holds, and what of it is still needed: called by `tasks.collect`, which deletes the rest.

Artefacts refer to each other by the digests in their keys. Nothing here changes a file.
"""

import json
import os
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.artifacts import KEY, MANIFEST, read_manifest
from tasks.job import JOB, WORK, Key, digest_of
from tasks.jobs.train import WEIGHTS

FOLDER = re.compile(r"[0-9a-f]{12}(\.partial)?")
RUNS, SHARDS = "runs", "shards"
LISTS = ("members", "checksums")
"""What is known of an archive; that of an archive that has changed takes its place."""


@dataclass(frozen=True)
class Entry:
    """One artefact of the workspace, finished or begun."""

    path: Path
    kind: str
    """The folder of the workspace that it is in: `runs`, `shards`, `predictions`."""
    created_at: datetime
    key: Key | None
    """What it is made from; None if it is unfinished and cannot be resumed."""
    digests: frozenset[str] = frozenset()
    """By which others refer to it: of its content, of its weights; empty if it is unfinished."""
    source: Any = None
    """Of a set of shards: where its images come from."""


def take_inventory(workspace: Path) -> list[Entry]:
    """Return every artefact of a workspace, the oldest first.

    Raises:
        InputError: a manifest that cannot be read.
    """
    found = []
    for folder, names, _ in os.walk(workspace):
        here = [name for name in names if FOLDER.fullmatch(name) and _is_artefact(Path(folder, name))]
        found += [_read(Path(folder, name), workspace) for name in here]
        names[:] = [name for name in names if name not in here and not name.startswith(".")]
    return sorted(found, key=lambda entry: entry.created_at)


class Inventory:
    """The artefacts of a workspace and how they depend on each other."""

    def __init__(self, entries: Sequence[Entry], champions: Container[str]) -> None:
        """Index the entries, the oldest first; `champions` are the names of which there were retrainings."""
        self.entries = entries
        runs = {entry.path.parent for entry in entries if entry.kind == RUNS}
        self.retrained = {folder for folder in runs if folder.name.rpartition("-")[0] in champions}
        """The folders in which retrainings make their networks, one per seed: `runs/NAME-SEED`."""
        others_last = sorted(entries, key=lambda entry: entry.path.parent not in self.retrained)
        self.named = {digest: entry for entry in others_last for digest in entry.digests}
        """The newest artefact of each digest, of equal networks one that is not of a retraining."""
        self._things: dict[Path, str] = {}
        self._newest = {self._thing(entry): entry for entry in entries if entry.key is not None}
        self._newest_finished = {self._thing(entry): entry for entry in entries if entry.digests}

    def inputs(self, entry: Entry) -> dict[str, list[Entry]]:
        """Return the artefacts that one was made from, by the name of the input."""
        read = entry.key.inputs if entry.key is not None else {}
        return {name: [self.named[text] for text in _texts(value) if text in self.named] for name, value in read.items()}

    def successor(self, entry: Entry) -> Entry | None:
        """Return the newest version of the same thing; None if this is it.

        An unfinished one takes the place of unfinished ones only.
        """
        newest = (self._newest_finished if entry.digests else self._newest).get(self._thing(entry))
        return None if newest is entry else newest

    def needed(self, digests: Iterable[str], paths: Container[Path]) -> set[Path]:
        """Return the artefacts to keep, if those with these digests and at these paths are.

        The newest version of each network and of each set of shards is kept too. So is everything that any of these was made
        from, and the newest of everything else that was made from nothing but what is kept.
        """
        kept, ancestors = self._reach(
            [
                *(self.named[digest] for digest in digests if digest in self.named),
                *(entry for entry in self.entries if entry.path in paths),
                *(entry for entry in self.entries if entry.kind in (RUNS, SHARDS) and self._is_latest(entry)),
            ]
        )
        for entry in self.entries:  # the oldest first, so that what an artefact was made from comes before it
            made_from = {one.path for inputs in self.inputs(entry).values() for one in inputs}
            if entry.kind not in (RUNS, SHARDS) and self._is_latest(entry) and made_from <= kept:
                kept.add(entry.path)
        return kept | ancestors

    def _is_latest(self, entry: Entry) -> bool:
        return entry.key is not None and self.successor(entry) is None

    def _reach(self, roots: Sequence[Entry]) -> tuple[set[Path], set[Path]]:
        """What the roots were made from, themselves among it, and the networks that retrainings once started from.

        Of these the weights stay and the images do not: a chain of warm starts would keep every set that there ever was.
        """
        kept, ancestors = set[Path](), set[Path]()
        waiting = [(entry, kept) for entry in roots]
        while waiting:
            entry, seen = waiting.pop()
            if entry.path in seen:
                continue
            seen.add(entry.path)
            for name, inputs in self.inputs(entry).items():
                is_start = name == "initial" and entry.path.parent in self.retrained
                if is_start or seen is kept:
                    waiting += [(one, ancestors if is_start else kept) for one in inputs]
        return kept, ancestors

    def _thing(self, entry: Entry) -> str:
        """What all versions of an artefact have in common, as a digest.

        Networks and sets of shards are versions of one thing if they come from the same sources with the same settings,
        whatever images were there and whatever code read them; those of a retraining, if they have the same name and seed.
        Other artefacts are if nothing but the code differs.
        """
        if entry.path not in self._things:
            self._things[entry.path] = entry.path.name  # while it is looked for: a network can have the weights it started from
            self._things[entry.path] = digest_of([str(entry.path.parent), *self._distinction(entry)])
        return self._things[entry.path]

    def _distinction(self, entry: Entry) -> list[Any]:
        """What distinguishes things in one folder."""
        if entry.path.parent in self.retrained:
            return []
        if entry.key is None:
            return [entry.path.name]
        if entry.source is not None:
            return [entry.key.settings, entry.source]
        if entry.kind in LISTS:
            return [entry.key.settings]
        return [entry.key.settings, self._by_thing(entry.key.inputs) if entry.kind == RUNS else entry.key.inputs]

    def _by_thing(self, value: Any) -> Any:
        """Inputs, with what they are versions of in place of their digests."""
        if isinstance(value, dict):
            return {name: self._by_thing(entry) for name, entry in value.items()}
        return self._thing(self.named[value]) if value in self.named else value


def _is_artefact(path: Path) -> bool:
    return path.name.endswith(".partial") or (path / MANIFEST).exists()


def _read(path: Path, workspace: Path) -> Entry:
    kind = path.relative_to(workspace).parts[0]
    job = path / JOB
    if path.name.endswith(".partial"):
        key = path / WORK / KEY
        began = (job if job.exists() else path).stat().st_mtime
        read = Key(**json.loads(key.read_bytes())) if key.exists() else None
        return Entry(path, kind, datetime.fromtimestamp(began, UTC), read, source=_source(job))
    manifest = read_manifest(path)
    digests = {manifest.digest} | {entry.sha256 for name, entry in manifest.files.items() if name == WEIGHTS}
    return Entry(path, kind, manifest.created_at, manifest.key, frozenset(digests), _source(job))


def _source(job: Path) -> Any:
    """The source that a job of sharding reads; None for others."""
    return json.loads(job.read_bytes()).get("source") if job.exists() else None


def _texts(value: Any) -> Iterator[str]:
    """The strings in plain values."""
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)
    elif isinstance(value, str):
        yield value
