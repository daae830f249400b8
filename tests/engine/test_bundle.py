"""A bundle from its packing to a run that is ready to start, on a machine whose network was taken away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import kit
from fetches import FETCHES

from kit.benchmark import load_benchmark
from kit.core import paths
from kit.images.render import load_image


def offline(*words: str | Path, cwd: Path, env: dict[str, str] | None = None, code: int = 0) -> str:
    """What a command says on stdout and stderr in a network of its own, in which nothing else is, without this kit."""
    result = alone(*words, cwd=cwd, env=env, code=code)
    return result.stdout + result.stderr


def alone(
    *words: str | Path, cwd: Path, env: dict[str, str] | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a network of its own, where it does not see the kit of this checkout either."""
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    inside = [*unshare, "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | (env or {})
    result = subprocess.run([*inside, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == code, f"{words}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another machine: a home with a kit and a cache that came in a bundle."""
    base = tmp_path_factory.mktemp("far")
    kit("data", "make", "relion")
    kit("bundle", "relion/tiny", "--to", str(base / "carried"))
    said = offline("bash", base / "carried/install.sh", cwd=base, env=home(base))
    shutil.rmtree(base / "carried")
    assert f"--site {base}/kit/sites/local.toml" in said
    return base


def home(base: Path) -> dict[str, str]:
    return {"HOME": str(base), "XDG_CACHE_HOME": "", "KIT_CACHE": str(base / "cache"), "KIT_CONFIG": str(base / "kit.toml")}


def test_there_is_no_network(far: Path) -> None:
    """Which the other tests would not notice if it were there."""
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    assert "Network is unreachable" in offline(far / "kit/bin/python", "-c", code, cwd=far, code=1)


def test_the_kit_is_of_the_same_commit_and_knows_its_image(far: Path) -> None:
    code = "from kit.core import paths; from kit.images.render import load_image as i; print(paths.commit(), i('{}').hash)"
    said = offline(far / "kit/bin/python", "-c", code.format("relion-basic"), cwd=far, env=home(far))
    assert said.split() == [paths.commit(), load_image("relion-basic").hash]
    assert "digest sha256:" in offline(far / "kit/bin/kit", "image", "verify", "relion-basic", cwd=far, env=home(far))


def test_a_run_finds_image_and_data_and_is_rendered_as_here(far: Path) -> None:
    """RELION composes its stages in the image that was carried; nothing is built or generated again."""
    made = {path: path.stat().st_mtime_ns for path in (far / "cache").rglob("*")}
    words = ("run", "relion", "--site", str(far / "kit/sites/local.toml"), "--dry-run")
    text = alone(far / "kit/bin/kit", *words, cwd=far, env=home(far)).stdout
    assert str(far / "cache/images") in text
    assert text.replace(str(far / "cache"), str(paths.cache())) == kit(*words).stdout
    code = (
        "import pathlib; from kit.plan import *; from kit.runs import launch; print(launch.prepare(make_plan(Request("
        "'relion', site='kit/sites/local.toml')), pathlib.Path('runs')))"
    )
    run = Path(offline(far / "kit/bin/python", "-c", code, cwd=far, env=home(far)).split()[-1])
    assert (run / "data").resolve().parent == far / "cache/data"
    assert json.loads((run / "run.json").read_text())["image"]["digest"].startswith("sha256:")
    assert {path: path.stat().st_mtime_ns for path in (far / "cache").rglob("*")} == made


def test_its_job_starts_programs_of_the_image(far: Path) -> None:
    """The first lines of the job script, up to what runs one process in the image."""
    script = next((far / "runs/relion").glob("*/job.sh"))
    lines = script.read_text().partition("\nstage=\n")[0]
    said = offline("bash", "-c", f"{lines}\nin_image relion_refine --version", cwd=far, env=home(far))
    assert "RELION version: 3.1.3" in said


@pytest.mark.parametrize("size", [size for size, its in load_benchmark("relion").sizes.items() if its.workflow])
def test_no_job_script_of_a_workflow_fetches(size: str, tmp_path: Path) -> None:
    site = tmp_path / "patient.toml"
    site.write_text(f"max_minutes = 100000\n{(paths.PACKAGE / 'sites/local.toml').read_text()}")
    words = ("--site", str(site), "--nodes", "1", "--ranks", "3", "--threads", "1")
    text = kit("run", "relion", "--size", size, *words, "--dry-run").stdout
    assert "run_stage" in text
    assert [line for line in text.splitlines() if FETCHES.search(line)] == []
