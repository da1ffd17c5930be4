"""The resumable state of a run: everything the next epoch depends on, replaced as a whole or not at all."""

import os
import pickle
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from model.network.alexnet import AlexNet
from model.training.records import EpochRecord, record_from_dict


def save_checkpoint(path: Path, network: AlexNet, sgd: torch.optim.SGD, records: Sequence[EpochRecord]) -> None:
    """Write beside `path`, flush to disk, rename: a kill leaves the old checkpoint or the new one."""
    partial = path.with_suffix(".partial")
    state = {"network": network.state_dict(), "sgd": sgd.state_dict(), "records": [asdict(record) for record in records]}
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def load_checkpoint(path: Path, network: AlexNet, sgd: torch.optim.SGD) -> list[EpochRecord]:
    """Restore network and optimiser in place; return the epochs done, none where there is no checkpoint.

    Raises:
        ValueError: the file is damaged or belongs to another network.
    """
    if not path.exists():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        sgd.load_state_dict(state["sgd"])
        return [record_from_dict(row) for row in state["records"]]
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        kind = type(error).__name__
        raise ValueError(f"the checkpoint {path} cannot be resumed ({kind}); delete it to train from the start") from error
