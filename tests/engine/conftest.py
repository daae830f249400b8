"""What the tests on real engines share: one collected run and submission of each benchmark."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from filelock import FileLock


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of two processes one begins with `make submission`, while the other goes through what does without it."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    needing = [path for path, found in files.items() if any("made" in getattr(item, "fixturenames", ()) for item in found)]
    first = sorted(needing, key=lambda path: -len(files[path]))[:1]
    order = [*first, *(path for path in files if path not in needing), *(path for path in needing if path not in first)]
    items[:] = [item for path in order for item in files[path]]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """`make submission`, once for all tests of all processes, into folders of its own: submissions/ and runs/."""
    if worker_id == "master":
        return make_submission(tmp_path_factory.mktemp("made"))
    base = tmp_path_factory.getbasetemp().parent / "made"  # of all processes
    with FileLock(base.with_suffix(".lock")):
        if not base.exists():
            base.mkdir()
            make_submission(base)
            (base / "done").touch()
        assert (base / "done").exists(), "`make submission` failed in another process of the tests"
    return base


def make_submission(base: Path) -> Path:
    result = subprocess.run(
        ["make", "submission", f"SUBMISSIONS={base}/submissions"],
        cwd=ROOT,
        env={**os.environ, "KIT_RUNS": f"{base}/runs"},
        capture_output=True,
        text=True,
        timeout=2400,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Ready for a pull request" in result.stdout
    return base


@pytest.fixture(scope="session")
def made_runs(made: Path) -> Path:
    """The runs behind the submissions: {benchmark}/{run}."""
    return made / "runs"


@pytest.fixture(scope="session")
def made_submissions(made: Path) -> dict[str, Path]:
    """{benchmark: submission folder}"""
    return {folder.parent.parent.name: folder for folder in (made / "submissions").glob("*/*/*/*")}
