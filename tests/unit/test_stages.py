"""What runs inside the images stands apart: it imports nothing else of the kit, and loads where there is nothing else."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.core.paths import PACKAGE

# `__version__` is in kit/__init__.py, which the images have.
ALLOWED = {"kit": {"__version__"}}

LOAD = """
import importlib, importlib.abc, pkgutil, sys
sys.path.insert(0, sys.argv[1])
HEAVY = ("tensorflow", "horovod", "h5py", "xarray", "matplotlib")
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ImportError(f"{name} is loaded before it is needed")
sys.meta_path.insert(0, Refuse())
import kit.stages
for module in pkgutil.walk_packages(kit.stages.__path__, "kit.stages."):
    importlib.import_module(module.name)
    print(module.name)
strangers = [name for name in sys.modules if name.startswith("kit.") and not (name + ".").startswith("kit.stages.")]
assert not strangers, strangers
"""


def imports(path: Path) -> Iterator[str]:
    """What of the kit other than its stages a module imports anywhere, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [module if alias.name in ALLOWED.get(module, ()) else f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            inside = f"{name}.".startswith("kit.stages.") or name in ALLOWED
            if name.startswith(".") or (name.partition(".")[0] == "kit" and not inside):
                yield f"{path.name}:{node.lineno}: {name}"


def apart(package: Path, folder: Path) -> Path:
    """A folder with kit/__init__.py and kit/stages of a package, as the images have them."""
    (folder / "kit").mkdir(parents=True)
    shutil.copy(package / "__init__.py", folder / "kit/__init__.py")
    shutil.copytree(package / "stages", folder / "kit/stages", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def load(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", "-c", LOAD, str(folder)], capture_output=True, text=True, timeout=300)


def test_every_module_loads_without_the_rest_of_the_kit(tmp_path: Path) -> None:
    result = load(apart(PACKAGE, tmp_path))
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    files = [path for path in (PACKAGE / "stages").rglob("*.py") if path.name != "__init__.py"]
    assert loaded >= {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files}


def test_no_module_imports_another_part_of_the_kit() -> None:
    files = sorted((PACKAGE / "stages").rglob("*.py"))
    assert len(files) > 10
    assert [problem for path in files for problem in imports(path)] == []


@pytest.mark.parametrize(
    ("line", "found", "fails"),
    [
        ("from kit.core.errors import KitError", "kit.core.errors.KitError", "No module named 'kit.core'"),
        ("import kit.benchmark", "kit.benchmark", "No module named 'kit.benchmark'"),
        ("from kit import benchmark", "kit.benchmark", "cannot import name 'benchmark'"),
        ("from ...core import errors", "...core.errors", "No module named 'kit.core'"),
        ("def later():\n    from kit.core import files", "kit.core.files", ""),  # when it is called
        ("import tensorflow", "", "tensorflow is loaded before it is needed"),
    ],
)
def test_a_module_that_needs_the_rest_is_refused(tmp_path: Path, line: str, found: str, fails: str) -> None:
    folder = apart(PACKAGE, tmp_path)
    bad = folder / "kit/stages/ml/bad.py"
    bad.write_text(f"{line}\n")
    problems = list(imports(bad))
    assert (found in problems[0]) if found else not problems
    result = load(folder)
    assert fails in result.stderr
    assert (result.returncode != 0) == bool(fails)
