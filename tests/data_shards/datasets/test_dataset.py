"""What all datasets share: sources in job files, and modules that load only what they need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from data_shards.datasets.dataset import JobSource, Source
from data_shards.datasets.fall import FallSource
from data_shards.datasets.folder import FolderSource
from data_shards.datasets.ilsvrc import IlsvrcSource
from data_shards.datasets.synthetic import SyntheticSource
from data_shards.datasets.tiny_imagenet import TinyImageNetSource

ROOT = Path(__file__).parents[3]
MODULES = ("fall", "folder", "ilsvrc", "imagenette", "parquet", "synthetic", "tiny_imagenet", "wds")
SOURCES: list[Source] = [
    SyntheticSource(num_classes=40, train_per_class=3, val_per_class=2, seed=1),
    TinyImageNetSource(path=Path("/x/y.zip"), num_classes=20),
    FolderSource(path=Path("/x")),
    FolderSource(),
    IlsvrcSource(kind="ilsvrc2010", path=Path("/x")),
    IlsvrcSource(kind="ilsvrc2012", path=Path("~/x")),
    FallSource(kind="fall2009", path=Path("/x"), wnids=Path("/y"), seed=2),
    FallSource(kind="fall2011"),
]


class Job(BaseModel):
    source: JobSource


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.kind)
def test_a_job_file_returns_an_equal_source(source: Source) -> None:
    text = Job(source=source).model_dump_json()
    assert json.loads(text)["source"]["type"] == f"{type(source).__module__}:{type(source).__name__}"
    assert Job.model_validate_json(text).source == source


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "data_shards.planning:ShardConfig",
        "data_shards.datasets_of_mine:Source",
        "data_shards.datasets.folder:ImageFolder",
        "data_shards.datasets.folder:nothing",
        "data_shards.datasets.folder",
        "",
        None,
    ],
)
def test_a_type_that_is_not_a_source_of_this_package_is_refused(name: str | None) -> None:
    with pytest.raises(ValidationError, match="expected a source whose type is a class below data_shards.datasets"):
        Job.model_validate({"source": {"type": name, "kind": "folder", "path": "/x"}})


@pytest.mark.parametrize("value", [{"kind": "folder", "path": "/x"}, "data_shards.datasets.folder:FolderSource", None])
def test_a_source_without_a_type_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="expected a source whose type is a class below data_shards.datasets"):
        Job.model_validate({"source": value})


def test_a_field_of_another_source_is_refused() -> None:
    with pytest.raises(ValidationError, match="seed\n.*not permitted"):
        Job.model_validate({"source": {"type": "data_shards.datasets.folder:FolderSource", "kind": "folder", "seed": 1}})


def loaded_after(code: str) -> set[str]:
    """Return the modules that a new process has loaded after this code."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize("source", [SOURCES[0], SOURCES[2], SOURCES[6]], ids=lambda source: source.kind)
def test_reading_a_job_imports_no_other_dataset(source: Source) -> None:
    text = Job(source=source).model_dump_json()
    code = (
        "from pydantic import create_model\nfrom data_shards.datasets.dataset import JobSource\n"
        f"create_model('Job', source=(JobSource, ...)).model_validate_json({text!r})"
    )
    assert loaded_after(code) & {f"data_shards.datasets.{name}" for name in MODULES} == {type(source).__module__}


@pytest.mark.parametrize("module", [*MODULES, "scanning"])
def test_a_module_imports_no_heavy_library_that_it_does_not_need(module: str) -> None:
    heavy = {"cv2", "simplejpeg", "PIL", "pandas", "scipy", "torch", "numba", "matplotlib"}
    needed = {"cv2", "simplejpeg"} if module == "synthetic" else set()
    assert heavy & loaded_after(f"import data_shards.datasets.{module}") == needed
