"""What the tests share: commands, a runs folder, an ordinary user, one collected run of each benchmark, a finished run."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kit.image import docker_client, load_image

pytest_plugins = ["synthetic"]  # products of CloudMask

ROOT = Path(__file__).parent.parent
KIT = [sys.executable, "-m", "kit"]


def kit(*words: str, code: int = 0, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user would and expects an exit code."""
    result = subprocess.run(
        [*KIT, *words], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=1800
    )
    assert result.returncode == code, f"kit {' '.join(words)}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def in_docker(name: str, script: str, bind: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What a shell script prints in the Docker image, on stdout and stderr; an error if it fails."""
    output = docker_client().containers.run(
        load_image(name).tag,
        ["sh", "-c", script],
        remove=True,
        stderr=True,
        volumes={str(bind): {"bind": str(bind), "mode": "rw"}} if bind else {},
        working_dir=str(bind or "/"),
        environment=environment or {},
    )
    return str(output.decode(errors="replace"))


@pytest.fixture(scope="session")
def ordinary_user() -> pwd.struct_passwd:
    """Someone who is not root, as everyone is on a cluster; made by tests/slurm/start.sh."""
    try:
        return pwd.getpwnam("kittest")
    except KeyError:
        pytest.skip("no user kittest; sudo tests/slurm/start.sh makes one")


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


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A benchmark of three shell stages that runs on the host in no time, and the site for it; returns the runs folder.

    Stages and metrics go through the same templates, records and verdicts as the real ones.
    """
    from kit import benchmark, paths

    package = tmp_path / "package"
    (package / "benchmarks/toy").mkdir(parents=True)
    (package / "benchmarks/toy/benchmark.toml").write_text((ROOT / "tests/toy.toml").read_text())
    shutil.copytree(paths.PACKAGE / "sites", package / "sites")
    (package / "sites/here.toml").write_text(
        'description = "no container"\ncontact = "x"\nurl = "https://localhost"\n'
        '[partitions.local]\nscheduler = "local"\ncores = 2\n[container]\nruntime = "host"\nmpi = "inside"\n'
    )
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")

    class Code:
        GENERATOR = ()

        @staticmethod
        def generate(folder: Path, parameters: dict[str, object]) -> None:
            (folder / "input.txt").write_text(str(parameters["number"]))

        @staticmethod
        def evaluate(directory: Path, parameters: dict[str, object], ranks: int) -> None:
            (directory / "evaluation.json").write_text(json.dumps({"ranks": ranks}))

    monkeypatch.setattr(benchmark.Benchmark, "code", Code)
    return tmp_path / "runs"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew")
