"""What the tests on real engines share: one collected run and submission of each benchmark."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make submission`, once for all tests, into folders of its own: submissions/ and runs/."""
    base = tmp_path_factory.mktemp("made")
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
