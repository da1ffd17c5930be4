"""Which code makes an artefact: everything of ours that its worker imports, directly or not.

Nobody keeps lists of modules. The imports are read from the source (its AST), so that nothing has to be imported to know them;
docstrings and comments do not count, so that a reworded sentence does not throw away five days of training. Nor does what only
type checkers read, under `if TYPE_CHECKING`.
"""

import ast
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("base", "data_shards", "model", "tasks", "flows")


def code_digest(modules: Iterable[str]) -> str:
    """Return the SHA-256 over the import closure of these modules and the data files that they name."""
    files = sorted({file for module in closure(modules) for file in (_path(module), *_data_files(_path(module)))})
    digest = sha256()
    for file in files:
        digest.update(f"{file.relative_to(ROOT)} {_file_digest(file)}\n".encode())
    return digest.hexdigest()


def closure(modules: Iterable[str]) -> set[str]:
    """Return these modules and every module of ours that they import, directly or not, inside functions too."""
    waiting, found = list(modules), set[str]()
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imports_of(module)
    return found


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the modules of ours that one module imports; a module inside a package imports the packages around it.

    Raises:
        ValueError: no such module, or a relative import.
    """
    found = {part for name in _imported_names(_tree(_path(module))) if (part := _module_of(name)) is not None}
    parents = {name.rpartition(".")[0] for name in (module, *found)} - {""}
    return frozenset(found | parents)


def code_version() -> str:
    """Return the git commit, with `-dirty` if the tree differs from it; `unknown` outside of a checkout."""
    return _code_version(ROOT)


@cache
def _code_version(root: Path) -> str:
    describe = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _path(module: str) -> Path:
    folder = ROOT.joinpath(*module.split("."))
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if not path.is_file():
        raise ValueError(f"no module {module}; expected one below {', '.join(PACKAGES)}")
    return path


def _module_of(name: str) -> str | None:
    """The module of ours that holds `name`, which is a module or something in one; None for the libraries' names."""
    if name.split(".")[0] not in PACKAGES:
        return None
    folder = ROOT.joinpath(*name.split("."))
    return name if folder.with_suffix(".py").is_file() or (folder / "__init__.py").is_file() else name.rpartition(".")[0]


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(f"a relative import in line {node.lineno}; this project imports by full names")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _data_files(path: Path) -> frozenset[Path]:
    """Files beside a module that a string in it names, such as `published.csv`."""
    strings = {node.value for node in ast.walk(_tree(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    beside = {file.name: file for file in path.parent.iterdir() if file.is_file() and file.suffix not in (".py", ".pyc")}
    return frozenset(beside[name] for name in strings & beside.keys())


@cache
def _file_digest(path: Path) -> str:
    content = dump(_tree(path)).encode() if path.suffix == ".py" else path.read_bytes()
    return sha256(content).hexdigest()


def dump(node: object) -> str:
    """Return a syntax tree as text that is the same in every version of Python, unlike `ast.dump`: without empty fields."""
    if isinstance(node, ast.AST):
        fields = [f"{name}={dump(value)}" for name, value in ast.iter_fields(node) if value is not None and value != []]
        return f"{type(node).__name__}({', '.join(fields)})"
    return f"[{', '.join(map(dump, node))}]" if isinstance(node, list) else repr(node)


@cache
def _tree(path: Path) -> ast.Module:
    """The syntax of a file without its docstrings, strings that stand alone, and without what only type checkers read."""
    tree = ast.parse(path.read_bytes(), str(path))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not (_is_docstring(line) or _is_for_types(line))] or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _is_for_types(line: ast.stmt) -> bool:
    return isinstance(line, ast.If) and isinstance(line.test, ast.Name) and line.test.id == "TYPE_CHECKING"
