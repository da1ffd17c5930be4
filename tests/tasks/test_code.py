"""The code of an artefact: what its worker imports, directly or not, and none of its sentences."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.code import ROOT, closure, dump

PACKAGES = ("base", "data_shards", "model", "tasks")
WORKERS = sorted(path.stem for path in (ROOT / "tasks" / "workers").glob("*.py") if "__name__ ==" in path.read_text())


@pytest.fixture(scope="module")
def before():
    """The code digests of this checkout."""
    return digests(ROOT)


@pytest.fixture
def checkout(tmp_path):
    """A copy of the packages, to be changed."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def digests(checkout):
    """The code digest of every worker of a checkout, from a process of its own."""
    code = f"from tasks.code import code_digest; print([code_digest(['tasks.workers.' + name]) for name in {WORKERS}])"
    run = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True)
    return dict(zip(WORKERS, ast.literal_eval(run.stdout), strict=True))


def replace(path, old, new):
    text = path.read_text()
    assert old in text, f"{path} no longer holds {old!r}"
    path.write_text(text.replace(old, new))


def changed(before, after):
    return {name for name in WORKERS if before[name] != after[name]}


def test_another_tie_rule_makes_new_whatever_imports_it(before, checkout):
    replace(checkout / "model/evaluation/error_rates.py", "(classes < class_indices", "(classes > class_indices")
    assert changed(before, digests(checkout)) == {"train", "predict", "join", "submit"}


def test_code_is_the_same_text_in_every_version_of_python():
    """`ast.dump` says `type_params=[]` from 3.12 on, and leaves out empty lists from 3.13 on."""
    text = dump(ast.parse("def f(a=None):\n    return {a: 'x'}"))
    arguments = "arguments(args=[arg(arg='a')], defaults=[Constant()])"
    returned = "Return(value=Dict(keys=[Name(id='a', ctx=Load())], values=[Constant(value='x')]))"
    assert text == f"Module(body=[FunctionDef(name='f', args={arguments}, body=[{returned}])])"


def test_docstrings_and_comments_change_no_key(before, checkout):
    for package in PACKAGES:
        for path in (checkout / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            if not (tree.body and ast.get_docstring(tree)):
                continue
            end = tree.body[0].end_lineno
            lines = path.read_text().splitlines(keepends=True)
            path.write_text('"""Another docstring."""\n' + "".join(lines[end:]) + "# another comment\n")
    assert changed(before, digests(checkout)) == set()


@pytest.mark.parametrize(
    ("path", "old", "new", "makes_old"),
    [
        (
            "data_shards/shard_format.py",
            '"v1.2"',
            '"v1.3"',
            set(WORKERS) - {"members", "plan", "checksum", "faults", "codes", "rank", "retrieve"},
        ),
        ("tasks/workers/train.py", "VALIDATION_BATCH = ", "VALIDATION_BATCH = 1 + ", {"train"}),
        ("model/evaluation/published.csv", "table", "tabel", set()),
        ("data_shards/datasets/source.py", "import", "import json\nimport", set()),
        ("data_shards/datasets/fall.py", "import", "import json\nimport", set()),
    ],
)
def test_a_change_makes_old_what_depends_on_it(before, checkout, path, old, new, makes_old):
    text = (checkout / path).read_text()
    assert old in text
    (checkout / path).write_text(text.replace(old, new, 1) if not path.endswith("source.py") else text + "\nNEW = 1\n")
    assert changed(before, digests(checkout)) == makes_old


def test_an_import_inside_a_function_counts(tmp_path, monkeypatch):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").touch()
    (tmp_path / "tasks" / "a.py").write_text("def f():\n    from tasks import b\n    import json\n")
    (tmp_path / "tasks" / "b.py").write_text("from tasks.c import name\n")
    (tmp_path / "tasks" / "c.py").write_text("name = 1\n")
    monkeypatch.setattr("tasks.code.ROOT", tmp_path)
    closure_of_a = closure(["tasks.a"])
    assert closure_of_a == {"tasks", "tasks.a", "tasks.b", "tasks.c"}


def test_a_worker_that_does_not_exist_is_a_bug():
    with pytest.raises(ValueError, match="no module tasks.workers.nothing"):
        closure(["tasks.workers.nothing"])


def test_no_worker_imports_prefect_or_flows():
    for name in WORKERS:
        modules = closure([f"tasks.workers.{name}"])
        assert not [module for module in modules if module.startswith("flows")], name
        assert "tasks.make" not in modules, name
        assert Path(ROOT / "tasks" / "workers" / f"{name}.py").is_file()
