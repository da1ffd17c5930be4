"""The locks: what a user needs, and beside it what tests and checks need."""

import re
from pathlib import Path

import pytest

from tasks.code import ROOT


def names(path: Path) -> list[str]:
    lines = [line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines()]
    return [re.split(r"[=<>\[]", line)[0].lower().replace("_", "-") for line in lines if line]


@pytest.mark.parametrize("lock", ["requirements", "requirements-dev"])
def test_whatever_the_project_asks_for_is_locked(lock):
    assert set(names(ROOT / f"{lock}.in")) <= set(names(ROOT / "requirements.txt") + names(ROOT / f"{lock}.txt"))


def test_no_package_is_locked_twice_and_a_user_needs_neither_dask_nor_test_tools():
    user, rest = names(ROOT / "requirements.txt"), names(ROOT / "requirements-dev.txt")
    assert len({*user, *rest}) == len(user) + len(rest)
    assert not {"dask", "distributed", "prefect-dask", "pytest", "mypy", "ruff", "import-linter", "onnx"} & set(user)


def test_onnx_files_are_tested_with_the_versions_that_users_of_them_install():
    lines = [(ROOT / f"requirements-{name}.txt").read_text("utf-8").splitlines()[1:] for name in ("onnx", "dev")]
    assert {"onnx", "onnxruntime", "onnxscript"} <= set(names(ROOT / "requirements-onnx.txt"))
    assert set(lines[0]) <= set(lines[1])
