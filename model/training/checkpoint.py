"""The resumable state of a run: everything that the next step depends on, written as a whole or not at all.

The last few are kept, so that one that a failing disk has damaged is not the end of a run.
"""

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch

from model.network.alexnet import AlexNet
from model.training.records import State


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run."""

    directory: Path
    keep: int = 3
    """How many, the newest."""

    def save(self, state: State, network: AlexNet, sgd: torch.optim.SGD) -> None:
        """Write under another name, flush to disk, rename; then remove the oldest.

        Raises:
            OSError: it cannot be written; those before it are still there.
        """
        self.directory.mkdir(exist_ok=True)
        path = self.directory / f"{state.epoch:04d}-{state.images:09d}.pt"  # the names' order is that of the training
        partial = self.directory / "checkpoint.partial"
        values = {"network": network.state_dict(), "sgd": sgd.state_dict(), "state": state.to_dict()}
        try:
            with open(partial, "wb") as file:
                torch.save(values, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            first = error if isinstance(error, OSError) else error.__context__ or error  # torch's own word for it is no help
            raise OSError(
                f"cannot write the checkpoint {path} ({first}); free some space, if that is it, and run again"
            ) from error
        partial.rename(path)
        for old in self.paths()[: -self.keep]:
            old.unlink()

    def load(self, network: AlexNet, sgd: torch.optim.SGD, say: Callable[[str], None] = print) -> State:
        """Restore network and optimiser in place from the newest that can be read; return how far it was.

        Raises:
            ValueError: there are some, and all are damaged or of another network.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                with ZipFile(path) as archive:
                    if (damaged := archive.testzip()) is not None:  # torch does not look at the checksums
                        raise BadZipFile(damaged)
                values = torch.load(path, map_location="cpu", weights_only=True)
                network.load_state_dict(values["network"])
                sgd.load_state_dict(values["sgd"])
                return State.from_dict(values["state"])
            except (
                RuntimeError,
                KeyError,
                TypeError,
                EOFError,
                ValueError,
                OSError,
                BadZipFile,
                pickle.UnpicklingError,
            ) as error:
                say(f"the checkpoint {path} cannot be resumed ({type(error).__name__}); trying the one before")
        if paths:
            raise ValueError(f"no checkpoint in {self.directory} can be resumed; delete it to train from the start")
        return State()

    def paths(self) -> list[Path]:
        """Return those that are complete, the newest last."""
        return sorted(self.directory.glob("*.pt"))
