"""What is kept and what goes, on artefacts that were published as every other is; killed in the middle, and finished later."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks.collect
from base.errors import InputError
from base.files import write_text
from model.evaluation.schemas import ERROR_RATES
from model.retraining.history import CHAMPIONS_FILE, RETRAININGS_FILE, Champion, append
from model.retraining.schemas import RETRAININGS
from tasks.artifacts import KEY, begin, find, publish, read_manifest
from tasks.collect import CollectRecord, as_bytes, delete_unneeded, find_unneeded, pin_artefacts
from tasks.job import JOB, WORK, Artifact, Key
from tasks.jobs.train import WEIGHTS
from tasks.workspace import Workspace

FOLDER = {"kind": "folder", "path": "/images"}
MONDAY = datetime(2026, 11, 23, 3, tzinfo=UTC)


class Store:
    """A workspace, and artefacts in it as the pipeline publishes them."""

    def __init__(self, path: Path) -> None:
        self.workspace = Workspace(path=path)

    def publish(self, folder: str, key: Key, files: Mapping[str, str], work: bool = False) -> Artifact:
        """Publish an artefact; with `work`, leave it as a run that is killed leaves it."""
        path = self.workspace.path / folder / key.digest[:12]
        partial = begin(path)
        for name, text in files.items():
            write_text(partial / name, text)
        if work:
            write_text(partial / WORK / KEY, json.dumps(key._asdict()))
            return Artifact(path=partial, digest="")
        return publish(path, key, {})

    def shards(self, images: str, code: str = "1", split: str = "train", source: Mapping[str, str] = FOLDER) -> Artifact:
        key = Key({"dataset": {"files": images}}, {"storage": "square72"}, code)
        files = {"0.tar": images * 1000, JOB: json.dumps({"source": source})}
        return self.publish(f"shards/images/{split}", key, files)

    def train(self, name: str, train: Artifact, initial: str | None = None, code: str = "1", work: bool = False) -> Artifact:
        start = {} if initial is None else {"initial": initial}
        key = Key({"train": train.digest, **start}, {"training": {"seed": 0}}, code)
        return self.publish(f"runs/{name}", key, {WEIGHTS: f"trained by {code} on {key.inputs}"}, work)

    def predict(self, weights: str, shards: Artifact, code: str = "1") -> Artifact:
        key = Key({"weights": weights, "shards": shards.digest}, {"views": 10}, code)
        return self.publish(f"predictions/{weights[:12]}/images-val", key, {"predictions.parquet": f"{code} {key.inputs}"})

    def row(self, weights: str, shards: Artifact, config: str = "") -> None:
        """Append a row to `error_rates`."""
        path = self.workspace.tables / "error_rates.parquet"
        path.parent.mkdir(exist_ok=True)
        same = {"table": "evaluation", "model": "1 CNN", "source": "measured", "config": config, "schema_version": 3}
        new = pa.Table.from_pylist([{**same, "members": [weights], "shards": shards.digest}], schema=ERROR_RATES)
        pq.write_table(pa.concat_tables([pq.read_table(path), new]) if path.exists() else new, path)

    def decide(self, number: int, weights: str, train: Artifact, evaluation: Artifact, promoted: bool = True) -> None:
        """Append what a retraining appends when it has decided."""
        at = MONDAY + timedelta(days=number)
        run = {"retraining_id": f"r{number}", "name": "cats", "challenger": weights, "siblings": [weights], "finished_at": at}
        seen: dict[str, Any] = {"data_version": train.digest, "eval_set": evaluation.digest}
        append(self.workspace.tables, RETRAININGS_FILE, [dict.fromkeys(RETRAININGS.names) | run | seen | {"schema_version": 1}])
        if promoted:
            who: dict[str, Any] = {"name": "cats", "generation": number, "weights": weights, "siblings": [weights], "wnids": []}
            why: dict[str, Any] = {"cause": "promoted", "reason": "", "key": "", "vetoed": None, "run_id": None, "since": at}
            counts = {"num_images": 10, "top1_wrong": 1}
            champion = Champion(**who, **why, **counts, **seen, retraining_id=f"r{number}")
            append(self.workspace.tables, CHAMPIONS_FILE, [champion.row])

    def find(self, keep: int = 3) -> CollectRecord:
        return find_unneeded.fn(keep, self.workspace)

    def gone(self, keep: int = 3) -> set[Path]:
        return {one.path for one in self.find(keep).unneeded}

    def files(self) -> list[Path]:
        return [path for path in self.workspace.path.rglob("*") if path.is_file()]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def weights_of(run: Artifact) -> str:
    return read_manifest(run.path).files[WEIGHTS].sha256


class Nights(Store):
    """Five nights of retraining, each on more images and promoted, and one whose challenger was not."""

    def __init__(self, path: Path, warm: bool) -> None:
        super().__init__(path)
        self.evaluation = self.shards("held out", split="val")
        self.sets, self.runs, self.predictions = [], [], []
        for number in range(1, 7):
            self.sets.append(self.shards(f"images of night {number}"))
            initial = weights_of(self.runs[-1]) if warm and self.runs else None
            self.runs.append(self.train("cats-challenger-0", self.sets[-1], initial))
            weights = weights_of(self.runs[-1])
            self.predictions.append(self.predict(weights, self.evaluation))
            self.row(weights, self.evaluation, config=str(number))  # as `flows.retrain` does
            self.decide(number, weights, self.sets[-1], self.evaluation, promoted=number < 6)


@pytest.mark.parametrize("warm", [False, True])
def test_of_five_generations_the_last_three_stay_with_their_images_and_predictions(tmp_path: Path, warm: bool) -> None:
    nights = Nights(tmp_path, warm)
    old = nights.sets[:2] + nights.predictions[:2] + ([] if warm else nights.runs[:2])
    assert nights.gone() == {one.path for one in old}
    assert {one.reason for one in nights.find().unneeded if one.kind == "runs"} == (
        set() if warm else {"of no generation that is kept"}
    )
    assert nights.gone(keep=5) == set()
    more = nights.sets[2:4] + nights.predictions[2:4] + ([] if warm else nights.runs[2:4])
    assert nights.gone(keep=1) == nights.gone() | {one.path for one in more}


def test_what_it_frees_is_what_it_said(tmp_path: Path) -> None:
    nights = Nights(tmp_path, warm=False)
    shown = tmp_path / "champions" / "cats" / WEIGHTS
    shown.parent.mkdir(parents=True)
    os.link(nights.runs[0].path / WEIGHTS, shown)  # deleting the run frees nothing of this
    before = sum(path.stat().st_size / path.stat().st_nlink for path in nights.files())
    record, there = nights.find(), nights.files()
    assert "were not deleted, see --delete" in str(record)
    assert nights.files() == there
    done = delete_unneeded.fn(record)
    assert before - sum(path.stat().st_size for path in nights.files()) == done.num_bytes > 0
    assert str(done).endswith(
        f"deleted: 6 artefacts, {as_bytes(done.num_bytes)}; {done.num_kept} artefacts stay, {as_bytes(done.bytes_kept)}"
    )
    assert nights.gone() == set()
    assert str(nights.find()).startswith("nothing to delete")
    assert {path.name for path in (tmp_path / "predictions").iterdir()} == {weights_of(run)[:12] for run in nights.runs[2:]}


def killed(spot: int, record: CollectRecord) -> None:
    """Delete in a process that kills itself just before it removes the files of the artefact with this number."""
    child = os.fork()
    if child == 0:
        remove, calls = tasks.collect._remove, iter(range(1000))
        tasks.collect._remove = lambda path: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == spot else remove(path)
        delete_unneeded.fn(record)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.parametrize("spot", [1, 2, 4, 6])
def test_killed_at_any_time_it_leaves_whole_artefacts_and_is_finished_by_the_next_run(tmp_path: Path, spot: int) -> None:
    nights = Nights(tmp_path, warm=False)
    unneeded = nights.gone()
    record = nights.find()
    killed(spot, record)
    left = [manifest.parent for manifest in tmp_path.glob("[a-z]*/**/manifest.json")]
    assert len(left) == 19 - spot
    assert all(find(path) is not None for path in left)
    manifests = [read_manifest(path) for path in left]
    known = {manifest.digest for manifest in manifests} | {
        weights_of(find(path)) for path in left if path.parent.name == "cats-challenger-0"
    }
    assert {text for one in manifests for text in one.inputs.values() if isinstance(text, str)} <= known
    again = nights.find()
    assert {one.path for one in again.unneeded} == {path for path in unneeded if path.exists()}
    assert again.left_over > 0
    assert again.left_over + sum(one.num_bytes for one in again.unneeded) <= record.num_bytes
    delete_unneeded.fn(again)
    assert nights.gone() == set()
    assert not (tmp_path / tasks.collect.COLLECTED).exists()
    assert all(find(one.path) for one in (*nights.sets[2:], *nights.runs[2:], *nights.predictions[2:], nights.evaluation))


def test_a_network_that_no_row_names_stays(store: Store) -> None:
    images = store.shards("a")
    store.train("mine", images)
    assert store.gone() == set()


def test_a_network_made_again_by_other_code_takes_the_place_of_the_old_one_once_a_row_names_it(store: Store) -> None:
    images = store.shards("a")
    first = store.train("mine", images, code="1")
    scored = store.predict(weights_of(first), images)
    store.row(weights_of(first), images)
    second = store.train("mine", images, code="2")
    assert store.gone() == set()
    store.row(weights_of(second), images)
    assert store.gone() == {first.path, scored.path}
    reasons = {one.kind: one.reason for one in store.find().unneeded}
    assert reasons == {"runs": f"superseded by {second.path.name}", "predictions": f"made from runs {first.path.name}"}


def test_a_row_of_other_settings_keeps_its_network(store: Store) -> None:
    images = store.shards("a")
    for code in "12":
        store.row(weights_of(store.train("mine", images, code=code)), images, config=code)
    assert store.gone() == set()


def test_of_equal_sets_by_two_versions_of_the_code_the_newer_stays(store: Store) -> None:
    old, new = store.shards("a", code="1"), store.shards("a", code="2")
    assert old.digest == new.digest
    store.train("mine", old)
    assert store.gone() == {old.path}


def test_sets_of_two_sources_of_one_name_both_stay(store: Store) -> None:
    store.shards("a", source={"kind": "folder", "path": "/here/images"})
    store.shards("b", source={"kind": "folder", "path": "/there/images"})
    assert store.gone() == set()


def test_predictions_of_weights_from_elsewhere_stay(store: Store) -> None:
    store.predict("ab" * 32, store.shards("a", split="val"))
    assert store.gone() == set()


def test_a_fine_tuned_network_keeps_what_it_was_trained_from_and_their_images(store: Store) -> None:
    superset, target = store.shards("many", source={"kind": "superset"}), store.shards("few")
    before = store.train("pre-trained", superset, code="1")
    tuned = store.train("fine-tuned", target, initial=weights_of(before))
    store.row(weights_of(tuned), target)
    store.train("pre-trained", superset, code="2")
    assert store.gone() == set()


def test_a_network_with_the_weights_that_it_started_from_stays(store: Store) -> None:
    images = store.shards("a")
    for start in (None, "same"):
        inputs = {"train": images.digest} | ({} if start is None else {"initial": sha256(b"same").hexdigest()})
        store.publish("runs/mine", Key(inputs, {}, "1"), {WEIGHTS: "same"})
    assert store.gone() == set()


def test_what_can_be_resumed_stays_until_it_is_begun_again_on_other_images(store: Store) -> None:
    old = store.shards("a")
    begun = store.train("mine", old, work=True)
    assert store.gone() == set()
    new = store.shards("b")
    assert store.gone() == set(), "its images are needed to continue"
    store.train("mine", new)
    assert store.gone() == {begun.path, old.path}
    assert {one.reason.split(" by ")[0] for one in store.find().unneeded} == {"unfinished, superseded", "superseded"}


def test_an_unfinished_artefact_does_not_replace_a_finished_one(store: Store) -> None:
    images = store.shards("a")
    store.train("mine", images, code="1")
    store.train("mine", images, code="2", work=True)
    assert store.gone() == set()


def test_what_cannot_be_resumed_goes(store: Store) -> None:
    partial = begin(store.workspace.path / "colours" / "0123456789ab")
    assert store.gone() == {partial}


def test_what_a_worker_without_a_run_is_writing_stays(store: Store, processes: Any, wait_for: Any) -> None:
    partial = begin(store.workspace.path / "colours" / "0123456789ab")
    with subprocess.Popen(["tail", "-f", "/dev/null", str(partial / JOB)], stderr=subprocess.DEVNULL) as worker:
        try:
            wait_for(lambda: worker.pid in processes(partial), "the worker has no command line")  # a process gets it late
            assert store.gone() == set()
        finally:
            worker.kill()
    assert store.gone() == {partial}


def test_a_challenger_that_is_not_decided_yet_stays(tmp_path: Path) -> None:
    nights = Nights(tmp_path, warm=True)
    images = nights.shards("images of night 7")
    done = nights.train("cats-challenger-0", images, weights_of(nights.runs[4]))
    assert done.path not in nights.gone()
    assert nights.runs[5].path in nights.gone(), "the challenger before it was not promoted"


def test_a_network_equal_to_one_of_a_retraining_stays_with_its_predictions(tmp_path: Path) -> None:
    nights = Nights(tmp_path, warm=False)
    mine = nights.train("mine-0", nights.sets[0])
    assert weights_of(mine) == weights_of(nights.runs[0])
    assert nights.runs[0].path in nights.gone()
    assert nights.gone().isdisjoint({mine.path, nights.sets[0].path, nights.predictions[0].path})


def test_the_page_that_is_shown_keeps_what_it_was_made_from(store: Store) -> None:
    images = store.shards("a")
    first = store.train("mine", images, code="1")
    page = store.publish("report/mine", Key({"weights": [weights_of(first)]}, {}, "1"), {"index.html": "page"})
    write_text(store.workspace.path / "report" / "mine.html", f'<a href="mine/{page.path.name}/index.html">')
    store.train("mine", images, code="2")
    assert store.gone() == set()
    write_text(store.workspace.path / "report" / "mine.html", '<a href="mine/another/index.html">')
    assert store.gone() == {page.path, first.path}


def test_what_is_pinned_stays_with_what_it_was_made_from(tmp_path: Path) -> None:
    nights = Nights(tmp_path, warm=False)
    pin_artefacts.fn([nights.runs[0].path / WEIGHTS, nights.runs[0].path], nights.workspace)
    assert (tmp_path / "pinned.txt").read_text() == f"runs/cats-challenger-0/{nights.runs[0].path.name}\n"
    assert nights.gone().isdisjoint(one.path for one in (nights.runs[0], nights.sets[0], nights.predictions[0]))
    assert nights.runs[1].path in nights.gone()


@pytest.mark.parametrize("path", ["runs/cats-challenger-0/0123456789ab", "tables", "."])
def test_a_pin_of_nothing_is_refused(store: Store, path: str) -> None:
    store.shards("a")
    with pytest.raises(InputError, match=r"is pinned but is not in an artefact of .*; expected a path such as runs/NAME/KEY"):
        pin_artefacts.fn([store.workspace.path / path], store.workspace)
    (store.workspace.path / "pinned.txt").write_text(f"# why\n\n{path}\n")
    with pytest.raises(InputError, match="remove its line in"):
        store.find()


def test_other_files_of_the_workspace_are_left_alone(store: Store) -> None:
    mine = [
        store.workspace.path / name for name in ("notes/manifest.json", "sources/a.tar", "logs/x.partial", "0123456789ab/a")
    ]
    for path in mine:
        write_parents(path)
    assert store.gone() == set()


def write_parents(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (47_300_000_000, "47.3 GB"), (999_600, "1 MB")]
)
def test_bytes_are_shown_with_three_digits(count: int, text: str) -> None:
    assert as_bytes(count) == text
