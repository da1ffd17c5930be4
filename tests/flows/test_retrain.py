"""Retraining that is left alone: a story on a real server and worker, kills at every step, and two runs at once."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import pandas as pd
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import ArtifactFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Scheduled
from prefect.workers.process import ProcessWorker

from base.errors import InputError
from flows.champion import champion
from flows.retrain import retrain
from flows.services import POOL, PREFECT
from model.retraining.history import read_champions, read_retrainings
from tasks.champions import claimed
from tasks.code import ROOT
from tasks.workspace import locked

WNIDS = ["n01", "n02", "n03", "n04"]
RED = [0, 2, 5, 7]
"""Of a class, from 0 to 7: the low three bits of the number of a picture."""
FIRST, LATER, VAL = range(0, 64, 4), range(2, 64, 8), range(1, 64, 2)
"""Numbers of the pictures of a class: of the first night, of the next, and of the evaluation set."""
SMALL = {"preset": "small-folder", "width": 1 / 12, "batch_size": 16, "epochs": 20, "views": 1, "device": "cpu"}
Picture = Callable[[int], bytes]


class Folder:
    """A folder that images arrive in."""

    def __init__(self, root: Path, picture: Picture) -> None:
        self.root, self.picture = root, picture

    def add(self, split: str, wnid: str, numbers: Iterable[int], red: int | None = None) -> None:
        """Add images, of the colour of the class if no other is given."""
        red = RED[WNIDS.index(wnid)] if red is None else red
        for number in numbers:
            path = self.root / split / wnid / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.picture(8 * number + red))

    def fill(self) -> "Folder":
        """Add the images of the first night: three classes of 16 training and 32 validation images."""
        for wnid in WNIDS[:3]:
            self.add("train", wnid, FIRST)
            self.add("val", wnid, VAL)
        return self


class Night:
    """What runs of one champion are given, and what they leave."""

    def __init__(self, folder: Folder, workspace: Path) -> None:
        self.folder, self.workspace = folder, workspace
        self.given = {**SMALL, "name": "arriving", "source": folder.root, "workspace": workspace}

    def __call__(self, **parameters: object) -> State:
        """Retrain in this process; return the state of the run."""
        return retrain(**{**self.given, **parameters}, return_state=True)

    @property
    def runs(self) -> list[dict[str, object]]:
        return read_retrainings(self.workspace / "tables", "arriving")

    @property
    def decisions(self) -> list[object]:
        return [run["decision"] for run in self.runs]

    @property
    def generations(self) -> list[tuple[int, str, str]]:
        return [(one.generation, one.cause, one.weights) for one in read_champions(self.workspace / "tables", "arriving")]

    @property
    def shown(self) -> str:
        return (self.workspace / "champions" / "arriving" / "README.md").read_text("utf-8")


@pytest.fixture
def deployed(prefect_server: str, tmp_path: Path) -> Iterator[str]:
    """Deploy the flow and start a worker for it, as `make up` does; return the address of the server of the tests."""
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    project["deployments"] = [one for one in project["deployments"] if one["entrypoint"] == "flows.retrain.retrain"]
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(project))
    pool = WorkPoolCreate(name=POOL, type="process", base_job_template=ProcessWorker.get_default_base_job_template())
    with SyncPrefectClient(prefect_server) as client:
        client.create_work_pool(pool, overwrite=True)
    own = {"PREFECT_API_URL": prefect_server, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "2"}
    deploy, work = ["deploy", "--all", "--prefect-file", str(file)], ["worker", "start", "--pool", POOL, "--limit", "1"]
    with open(tmp_path / "said.txt", "w") as said:
        given = {"cwd": ROOT, "env": {**os.environ, **own}, "stdout": said, "stderr": said}
        subprocess.run([*PREFECT, *deploy], check=True, **given)
        with subprocess.Popen([*PREFECT, *work], **given) as worker:
            yield prefect_server
            worker.terminate()


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.3)


def begin_late(api: str, night: Night, due: list[datetime], **parameters: object) -> list[FlowRun]:
    """Let nights that were due earlier begin now, as after a holiday of the worker; return the runs when all have ended."""
    given = json.loads(json.dumps({**night.given, **parameters}, default=str))
    with SyncPrefectClient(api) as client:
        deployment = client.read_deployment_by_name("retrain/folder")
        states = [Scheduled(scheduled_time=at) for at in due]
        made = [client.create_flow_run_from_deployment(deployment.id, parameters=given, state=state) for state in states]

        def ended() -> bool:
            states = [client.read_flow_run(run.id).state for run in made]
            return all(state is not None and state.is_final() for state in states)

        wait_until(ended, "the end of the late nights")
        return [client.read_flow_run(run.id) for run in made]


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.long
def test_a_folder_that_images_arrive_in(deployed: str, tmp_path: Path, picture: Picture) -> None:
    workspace = tmp_path / "workspace"
    folder = Folder(tmp_path / "images", picture).fill()
    night = Night(folder, workspace)

    assert night().name == "Promoted"
    assert night.generations[0][:2] == (1, "first")
    assert "Generation 1 of `arriving`" in night.shown

    for wnid in WNIDS[:3]:
        folder.add("train", wnid, LATER)
    begun = cast("datetime", night.runs[0]["started_at"])
    nights = begin_late(deployed, night, [begun + timedelta(seconds=second) for second in (1, 2, 3)], rule="never")
    assert [run.state_name for run in nights[1:]] == ["Skipped", "Skipped"]
    worked, *late = night.runs[1:]
    assert worked["decision"] in ("undecided", "kept")  # another processor may train another network
    assert (worked["images_added"], worked["images_removed"], worked["start"], worked["looks"]) == (24, 0, "warm", 1)
    assert all(str(run["reason"]).startswith("superseded: ") for run in late)
    with SyncPrefectClient(deployed) as client:
        of_run = ArtifactFilter.model_validate({"flow_run_id": {"any_": [str(nights[0].id)]}})
        (text,) = (one.data for one in client.read_artifacts(artifact_filter=of_run) if one.key == "retrain-arriving")
    assert text.startswith(f"# arriving: {worked['decision']}\n")

    for path in folder.root.rglob("*.jpg"):
        path.touch()
    assert night().name == "Skipped"
    assert str(night.runs[-1]["reason"]).startswith("unchanged: the same images and settings were ")

    for place, wnid in enumerate(WNIDS[:3]):  # labels that are wrong: each class's images in the folder of the next one
        folder.add("train", wnid, [*FIRST, *LATER], red=RED[(place + 1) % 3])
    state = night(start="scratch")
    assert (state.name, night.runs[-1]["images_relabelled"]) == ("Kept", 48)
    for wnid in WNIDS[:3]:
        folder.add("train", wnid, [*FIRST, *LATER])

    stray = (folder.root / "val" / "n02" / "copy.jpg", folder.root / "train" / "n02" / "4.jpg")
    stray[0].write_bytes(stray[1].read_bytes())
    assert night().name == "Held"
    assert "1 training image is in the evaluation set too (train n02/4.jpg = val n02/copy.jpg)" in str(night.runs[-1]["reason"])
    stray[0].unlink()
    stray[1].unlink()
    for number in FIRST[:12]:
        (folder.root / "train" / "n01" / f"{number}.jpg").unlink()
    assert night().name == "Held"
    assert str(night.runs[-1]["reason"]).startswith("13 of the champion's training images are gone (27.1%)")
    folder.fill()

    folder.add("train", "n04", FIRST)
    folder.add("val", "n04", VAL)
    assert night(rule="not-worse", margin=1.0).name == "Promoted"
    added = night.runs[-1]
    assert (added["classes_added"], added["num_eval"], added["start"]) == (["n04"], 96, "warm")  # of the old classes
    assert [one[:2] for one in night.generations] == [(1, "first"), (2, "promoted")]

    history = champion("arriving", to=1, reason="not yet", workspace=workspace)
    assert "back to generation 1: not yet" in str(history)
    assert night.generations[2] == (3, "rollback", night.generations[0][2])
    assert "Generation 3 of `arriving`" in night.shown
    assert night(rule="not-worse", margin=1.0).name == "Skipped"
    assert "vetoed by the rollback" in str(night.runs[-1]["reason"])
    with pytest.raises(InputError, match="arriving has no generation 9 to go back to; it has 1, 2, 3"):
        champion("arriving", to=9, reason="a slip", workspace=workspace)

    state = night(source=tmp_path / "nowhere")
    assert (state.name, night.decisions[-1]) == ("Failed", "failed")
    assert "nowhere; give the path of the folder images" in str(night.runs[-1]["reason"])

    with claimed("arriving", workspace):
        assert night().name == "Skipped"
    decisions = ["skipped", "skipped", "skipped", "kept", "held", "held", "promoted", "skipped", "failed"]
    assert night.decisions == ["promoted", worked["decision"], *decisions]  # and no row of a run that found another one at work

    lock = workspace / "champions" / ".another.lock"
    with locked(workspace):
        begin = partial(night, name="another", source=tmp_path / "nowhere")
        waiting = threading.Thread(target=copy_context().run, args=[begin])
        waiting.start()
        wait_until(
            lambda: lock.exists() and f":{lock.stat().st_ino} " in Path("/proc/locks").read_text(), "a claim of the name"
        )
        time.sleep(1)
        assert read_retrainings(workspace / "tables", "another") == []
        released = datetime.now(UTC)
    waiting.join()
    (run,) = read_retrainings(workspace / "tables", "another")
    assert (run["decision"], run["started_at"] < released < run["finished_at"]) == ("failed", True)


@pytest.mark.usefixtures("forked_workers")
def test_killed_at_every_step_and_after_the_commit_it_has_one_champion_and_one_row_per_decision(
    program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, picture: Picture
) -> None:
    workspace = tmp_path / "workspace"
    night = Night(Folder(tmp_path / "images", picture).fill(), workspace)
    steps = [
        "shards/images/train/",
        "shards/images/val/",
        "colours/",
        "runs/arriving-challenger-0/",
        "predictions/",
        "tables/error_rates.parquet",
    ]
    before, after = ["champions/.arriving.parquet", "champions.parquet"], ["retrainings.parquet", "champions/arriving"]
    given = json.dumps({**night.given, "epochs": 1}, default=str)
    parts = [*(f"{workspace}/{part}" for part in [*steps, before[0]]), f"{workspace}/tables/{before[1]}"]
    parts += [f"{workspace}/tables/{after[0]}", f"{workspace}/{after[1]}"]
    for part in parts:
        done = program("tests.flows.killed", part, given)
        assert done.returncode == -signal.SIGKILL, done.stdout
    assert night.decisions == ["promoted"]
    assert night(epochs=1).name == "Skipped"
    assert night.decisions == ["promoted", "skipped"]
    assert [one[:2] for one in night.generations] == [(1, "first")]
    assert "Generation 1 of `arriving`" in night.shown
    runs = pd.DataFrame(night.runs)
    assert runs["retraining_id"].is_unique
    assert runs["retraining_id"][0] == read_champions(workspace / "tables")[0].retraining_id
    assert not list((workspace / "champions").glob(".arriving.p*"))
