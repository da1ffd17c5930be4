"""A module imports only what it needs: workers start fast, and unrelated changes make no artefact old."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("model.evaluation.classifiers", "torch numpy pandas scipy pyarrow"),
        ("model.evaluation.error_rates", "pandas scipy pyarrow pydantic base"),
        (
            "model.evaluation.build_classifier model.evaluation.predict model.evaluation.predictions",
            "pandas scipy tabulate matplotlib model.evaluation.published model.evaluation.schemas model.evaluation.intervals",
        ),
    ],
)
def test_a_module_imports_only_what_it_needs(modules, unwanted):
    code = f"import sys, {modules.replace(' ', ', ')}; print(*sorted(set(sys.modules) & set({unwanted.split()!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
