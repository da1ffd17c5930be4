"""The resumable state of a run: everything that the next step depends on.

`model.training.loop` saves and loads it. The last few files are kept, so that a run survives one that a failing disk damages.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from zipfile import BadZipFile, ZipFile

import torch

from base.errors import InputError
from base.files import atomic_write
from model.network.alexnet import AlexNet
from model.training.records import State

UNREADABLE = (RuntimeError, KeyError, TypeError, EOFError, ValueError, OSError, BadZipFile, pickle.UnpicklingError)
"""What reading a damaged file, or one of another network, can raise."""


@dataclass
class Checkpoints:
    """The checkpoints of one run."""

    directory: Path
    minutes: float = 10.0
    """Between two of them; there is one after each epoch too."""
    keep: int = 3
    """How many of the newest are kept."""
    last_saved: float = field(default_factory=perf_counter, init=False)

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return perf_counter() - self.last_saved >= 60 * self.minutes

    def save(self, state: State, network: AlexNet, sgd: torch.optim.SGD) -> None:
        """Write a checkpoint, then delete the oldest.

        Raises:
            InputError: it cannot be written; the earlier ones are still there.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{state.epoch:04d}-{state.images:09d}.pt"  # sorted by name, they are in the order of training
        values = {"network": network.state_dict(), "sgd": sgd.state_dict(), "state": state.to_dict()}
        try:
            with atomic_write(path) as file:
                torch.save(values, file)
        except (OSError, RuntimeError) as error:
            first = error if isinstance(error, OSError) else error.__context__ or error  # torch hides the reason
            raise InputError(
                f"cannot write the checkpoint {path} ({first}); if the disk is full, free some space; then run again"
            ) from error
        for old in [*self.paths()[: -self.keep], *self.directory.glob("*.partial")]:  # a killed run leaves a partial file
            old.unlink()
        self.last_saved = perf_counter()

    def load(self, network: AlexNet, sgd: torch.optim.SGD, say: Callable[[str], None]) -> State:
        """Restore network and optimiser in place from the newest checkpoint that can be read; return its state.

        Raises:
            InputError: there are checkpoints, and all of them are damaged or of another network.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                with ZipFile(path) as archive:
                    if (damaged := archive.testzip()) is not None:  # torch does not verify the checksums
                        raise BadZipFile(damaged)
                values = torch.load(path, map_location="cpu", weights_only=True)
                network.load_state_dict(values["network"])
                sgd.load_state_dict(values["sgd"])
                return State.from_dict(values["state"])
            except UNREADABLE as error:
                say(f"cannot resume from the checkpoint {path} ({type(error).__name__}); trying the one before it")
        if paths:
            raise InputError(f"cannot resume from any checkpoint in {self.directory}; delete it to train from the start")
        return State()

    def paths(self) -> list[Path]:
        """Return the complete checkpoints, the newest last."""
        return sorted(self.directory.glob("*.pt"))
