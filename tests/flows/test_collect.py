"""Five generations of a champion beside a reproduction: what is collected frees what was said, and both go on as before."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from base.errors import InputError
from data_shards.datasets.dataset import Sample, as_rows
from data_shards.datasets.synthetic import Synthetic
from flows.champion import champion
from flows.collect import collect
from flows.reproduce import reproduce
from flows.retrain import retrain
from model.retraining.history import read_champions
from tasks.inventory import take_inventory

DRAWN = Synthetic(train_per_class=14, val_per_class=4)
WNIDS = [wnid for wnid, _ in DRAWN.classes()][:2]
SMALL: dict[str, Any] = {"preset": "small-folder", "epochs": 1, "device": "cpu"}


@pytest.fixture(autouse=True)
def without_heartbeats(prefect_server: str) -> Iterator[None]:
    """Report to the server of the tests; a heartbeat would cost a second per flow."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def write(folder: Path, samples: list[Sample]) -> None:
    for sample in samples:
        file = folder / str(sample.wnid) / sample.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(DRAWN.read(sample))


def bytes_in(workspace: Path) -> int:
    """The size of all files, each counted once, however many names it has."""
    files = (file.stat() for file in workspace.rglob("*") if file.is_file())
    return sum({file.st_ino: file.st_size for file in files}.values())


def artefacts(workspace: Path) -> set[Path]:
    return {entry.path.relative_to(workspace) for entry in take_inventory(workspace)}


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.long
def test_after_five_generations_it_frees_what_it_said_and_everything_else_is_found(tmp_path: Path) -> None:
    cats, dogs, workspace = tmp_path / "cats", tmp_path / "dogs", tmp_path / "workspace"
    train, val = ([one for one in as_rows(DRAWN.samples(split)) if one.wnid in WNIDS] for split in ("train", "val"))
    for folder, first in ((cats, 0), (dogs, 1)):
        write(folder / "train", train[first::2])
        write(folder / "val", val)
    later = train[1::2]

    def reproduced() -> str:
        return str(reproduce(source=dogs, num_networks=1, report=False, workspace=workspace, **SMALL))

    def night(**changes: Any) -> str:
        options = {"rule": "force", "reason": "a night has passed", "scratch_every": 2, **SMALL, **changes}
        return retrain(name="cats", source=cats, workspace=workspace, return_state=True, **options).name

    table = reproduced()
    for number in range(5):
        assert night() == "Promoted"
        write(cats / "train", later[number : number + 1])
    generations = read_champions(workspace / "tables", "cats")
    assert [one.generation for one in generations] == [1, 2, 3, 4, 5]

    there, size = artefacts(workspace), bytes_in(workspace)
    record = collect(workspace=workspace)
    assert artefacts(workspace) == there
    assert {one.kind for one in record.unneeded} == {"shards", "colours", "runs", "predictions"}
    assert sum(one.kind == "runs" for one in record.unneeded) == 2
    done = collect(delete=True, workspace=workspace)
    assert size - bytes_in(workspace) == done.num_bytes == record.num_bytes > 0
    assert artefacts(workspace) == there - {one.path.relative_to(workspace) for one in done.unneeded}

    left = artefacts(workspace)
    (cats / "train" / str(later[4].wnid) / later[4].name).unlink()  # as it was in the fifth night
    assert night(rule="superior", reason=None) == "Skipped"
    assert reproduced() == table
    champion(name="cats", to=3, reason="to try it", workspace=workspace)
    assert artefacts(workspace) == left
    with pytest.raises(InputError, match=generations[0].weights[:12]):
        champion(name="cats", to=1, reason="to try it", workspace=workspace)
    write(cats / "train", later[4:5])
    assert night() == "Promoted"
    assert read_champions(workspace / "tables", "cats")[-1].generation == 7
