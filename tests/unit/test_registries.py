"""A module that lacks what its registry promises is an error of the type checker, before anybody runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

# Of each registry a member, a function that is taken from it, and the type that the member then no longer has.
CASES = [
    ("schedulers", "slurm.py", "cancel", "Scheduler"),
    ("launchers", "srun.py", "command", "Launcher"),
    ("runtimes", "docker.py", "problem", "Runtime"),
    ("images/recipes", "topaz/__init__.py", "stages", "Recipe"),
]


def mypy(folder: Path) -> str:
    """What mypy says of the registries and their members; whatever else they import is not looked at."""
    options = ["--follow-imports=skip", "--ignore-missing-imports", "--cache-dir", str(folder / "cache")]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py") if path.name != "inventory.py")
    result = subprocess.run([sys.executable, "-m", "mypy", *options, *files], cwd=folder, capture_output=True, text=True)
    return result.stdout + result.stderr


def test_missing_function_is_a_type_error(tmp_path: Path) -> None:
    (tmp_path / "kit/images").mkdir(parents=True)
    for package in ("kit", "kit/images"):
        (tmp_path / package / "__init__.py").touch()
    for registry, *_ in CASES:
        shutil.copytree(ROOT / "kit" / registry, tmp_path / "kit" / registry)
    assert "Success" in mypy(tmp_path)
    for registry, member, function, _ in CASES:
        path = tmp_path / "kit" / registry / member
        text = path.read_text()
        assert f"def {function}(" in text
        path.write_text(text.replace(f"def {function}(", f"def _{function}("))
    said = mypy(tmp_path)
    for registry, *_, kind in CASES:
        assert f"kit/{registry}/__init__.py" in said
        assert f'expected "str": "{kind}"' in said
