"""What the workers really import, held against the closures from which their keys are made."""

import hashlib
import json
import os
from functools import partial
from pathlib import Path

import pytest

from data_shards.datasets.ilsvrc import IlsvrcSource
from data_shards.planning import ShardConfig
from model.network.config import NetworkConfig
from model.retrieval.config import RetrievalConfig
from model.training.config import TrainConfig
from tasks.checksums import check_md5
from tasks.code import PACKAGES, closure
from tasks.colours import measure_colours
from tasks.compute import Compute
from tasks.job import External
from tasks.jobs.export import ExportJob
from tasks.jobs.retrieve import RetrieveJob
from tasks.jobs.search import SearchJob
from tasks.make import make
from tasks.predict import predict_split
from tasks.prepare import training_set
from tasks.report import write_report
from tasks.retrieve import embed_split, retrieve
from tasks.shard import shard_split
from tasks.submit import write_submission
from tasks.train import plan_training, train_networks
from tasks.verify import find_duplicates, verify_set
from tasks.workspace import Workspace

HOOK = """
import atexit, json, os, sys
def write():
    name = next((word for word in sys.orig_argv if word.startswith("tasks.workers.")), None)
    if name:
        path = os.path.join(os.environ["IMPORTS_OF_WORKERS"], f"{name.rpartition('.')[2]}-{os.getpid()}.json")
        with open(path, "w") as file:
            json.dump(sorted({name, *(key for key, value in sys.modules.items() if value)}), file)
atexit.register(write)
"""
"""As `sitecustomize`, so that every worker leaves behind what it has imported."""

BEYOND = {
    "shard": {"data_shards.scaling": "only for images that are scaled down"},
    "train": {"tasks.workers.replicas": "only for replicas"},
    "export": {"model.export.onnx_file": "only for ONNX files"},
    "search": {"data_shards.scaling": "only for photographs that are scaled down"},
}
"""What the closure of a worker has beyond the imports of this run, with the reason."""


@pytest.fixture(scope="module")
def everything(write_official, picture, make_once) -> dict[str, set[str]]:
    """Return for each worker the modules that a real run of it imports: ILSVRC-2010 in miniature, from end to end."""

    def run(root: Path) -> None:
        (root / "hook").mkdir()
        (root / "hook" / "sitecustomize.py").write_text(HOOK)
        (root / "imports").mkdir()
        official = write_official(root / "official", "ilsvrc2010").root
        (root / "photograph.jpg").write_bytes(picture(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(root / "hook"), prepend=os.pathsep)
            patch.setenv("IMPORTS_OF_WORKERS", str(root / "imports"))
            patch.setattr("tasks.retrieve.RetrieveJob", partial(RetrieveJob, queries_at_once=1))  # or all are one block
            run_everything(official, Workspace(path=root / "workspace"), root)

    found: dict[str, set[str]] = {}
    for file in (make_once("closure", run) / "imports").iterdir():
        found.setdefault(file.name.partition("-")[0], set()).update(json.loads(file.read_text()))
    return found


@pytest.fixture(scope="module")
def imported(everything: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return for each worker the modules of ours among what it imports."""
    return {worker: {name for name in names if name.split(".")[0] in PACKAGES} for worker, names in everything.items()}


def run_everything(official: Path, workspace: Workspace, root: Path) -> None:
    """Run every worker once."""
    archive = official / "ILSVRC2010_images_val.tar"
    (root / "sums.md5").write_text(f"{hashlib.md5(archive.read_bytes()).hexdigest()}  {archive.name}\n")
    check_md5.fn(official, root / "sums.md5", workspace)
    source, config = IlsvrcSource(kind="ilsvrc2010", path=official), ShardConfig(storage="square72")
    data = training_set_without_prefect(source, config, workspace)
    compute = Compute(devices=("cpu",), num_threads=1, at_once=1)
    training = TrainConfig(epochs=1, batch_size=8)
    job = plan_training("run", "paper", NetworkConfig(crop=64, width=1 / 12), training, data, compute)
    weights = train_networks.fn([job], compute, workspace)
    test = shard_split.fn(source, "test", config, workspace)
    make([ExportJob(weights=weights[0], shards=test)], workspace)
    predictions = predict_split.fn(weights, test, "test", 1, compute, workspace)
    write_submission.fn(predictions, test, "test", workspace)
    report_on(weights[0], data["train"], test, predictions[0], compute, workspace, root / "photograph.jpg")
    verify_set.fn(test.path, True, 1, workspace)
    find_duplicates.fn({"test": test.path}, workspace)


def report_on(weights, train, test, predictions, compute, workspace, photograph):
    """Embed, encode, search and report on one network; search with one file more."""
    networks, config = {"cnn": weights}, RetrievalConfig(bits=(4,), epochs=1)
    vectors = [embed_split.fn(networks, *pair, config, compute, workspace) for pair in ((train, "train"), (test, "test"))]
    retrieved = retrieve.fn(networks, (train, test), tuple(vectors), config, workspace)["cnn"]
    write_report.fn("page", networks, "table1", test, train, predictions, retrieved, workspace)
    job = SearchJob(
        weights=weights,
        database=vectors[0]["cnn"],
        database_shards=train,
        images=(External(values={}),),
        paths=(photograph,),
    )
    make([job], workspace)


def training_set_without_prefect(source, config, workspace):
    patch = pytest.MonkeyPatch()
    patch.setattr("tasks.prepare.shard_split", shard_split.fn)
    patch.setattr("tasks.prepare.measure_colours", measure_colours.fn)
    try:
        return training_set(source, config, workspace)
    finally:
        patch.undo()


def test_every_worker_was_run(imported):
    workers = {path.stem for path in (Path(__file__).parents[2] / "tasks" / "workers").glob("*.py")}
    assert imported.keys() == workers - {"__init__", "__main__", "entry", "guard", "networks", "pictures", "replicas"}


def test_the_closure_contains_every_module_that_a_real_run_imports(imported):
    for worker, modules in imported.items():
        known = closure([f"tasks.workers.{worker}", "data_shards.datasets.ilsvrc"])
        assert modules <= known, f"{worker} imports {sorted(modules - known)}, which its closure lacks"


def test_what_the_closure_has_beyond_that_is_listed_with_a_reason(imported):
    for worker, modules in imported.items():
        beyond = closure([f"tasks.workers.{worker}"]) - modules
        assert beyond <= BEYOND.get(worker, {}).keys(), f"{worker}: {sorted(beyond)}"


def test_light_workers_import_no_heavy_library(everything):
    for worker in ("members", "checksum", "plan", "shard", "close"):
        assert not everything[worker] & {"torch", "pandas", "matplotlib", "numba", "prefect"}, worker


def test_training_imports_neither_numba_nor_matplotlib(everything):
    assert not everything["train"] & {"numba", "matplotlib", "prefect"}
