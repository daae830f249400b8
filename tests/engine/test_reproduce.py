"""Submissions reproduced with real containers: the toy as a whole, and those of RELION and CloudMask up to their scripts.

A whole reproduction of those two takes as long as they do; what differs from the toy's is what the other tests of the
engines hold.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import kit

from kit import reproduce
from kit.core import paths
from kit.core.checksums import SUMS
from kit.images.built import built_sif
from kit.images.render import load_image
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.collect import collect
from kit.runtimes import RUNTIMES, apptainer
from kit.submissions.pack import pack

IMAGE = "relion-basic"


@pytest.mark.parametrize("benchmark", ["relion", "cloudmask"])
def test_real_submissions_are_verified_and_rendered_anew(made_submissions: dict[str, Path], benchmark: str) -> None:
    folder = made_submissions[benchmark]
    assert kit("submission", "verify", str(folder)).stdout.strip().endswith(f"{folder}: verified")
    script = kit("reproduce", str(folder), "--site", "local", "--dry-run").stdout
    stages = re.findall(r"^(?:always=yes )?run_stage (\w+) '", script, re.MULTILINE)
    assert stages == [stage["name"] for stage in json.loads((folder / "run/benchmark.json").read_text())["stages"]]


@pytest.mark.parametrize("benchmark", ["relion", "cloudmask"])
def test_a_run_of_the_same_work_is_needed(
    made_submissions: dict[str, Path], made_runs: Path, benchmark: str, tmp_path: Path
) -> None:
    (own,) = (made_runs / benchmark).iterdir()
    (other,) = (made_runs / {"relion": "cloudmask", "cloudmask": "relion"}[benchmark]).iterdir()
    folder = str(made_submissions[benchmark])
    assert "is the very run that was submitted" in kit("reproduce", folder, "--run", str(own), code=1).stderr
    assert "differs from" in kit("reproduce", folder, "--run", str(other), code=1).stderr


@pytest.fixture
def sif() -> Path:
    """The real image, before the toy has a cache of its own."""
    return built_sif(load_image(IMAGE))


@pytest.fixture
def contained(sif: Path, toy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy on a site `boxes`, with its first stage in the real image of RELION; returns the folder of its runs."""
    monkeypatch.setitem(RUNTIMES, "apptainer", apptainer)
    target = load_image(IMAGE).sif
    target.parent.mkdir(parents=True)
    target.symlink_to(sif)
    site = paths.PACKAGE / "sites/here.toml"
    site.with_name("boxes.toml").write_text(site.read_text().replace('runtime = "host"', 'runtime = "apptainer"'))
    benchmark = paths.PACKAGE / "benchmarks/toy/benchmark.toml"
    benchmark.write_text(benchmark.read_text().replace('"cp data', '"in_image cp data'))
    return toy


def ran(directory: Path) -> Path:
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    return directory


def test_toy_in_a_real_container(contained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ran(launch.prepare(make_plan(Request("toy", site="boxes")), contained))
    assert collect(first).state.name == "valid"
    folder = pack(first, tmp_path / "submissions")
    repeats = tmp_path / "repeats.json"
    spread = {"image": IMAGE, "version": "1", "machine": "x", "seeds": [1, 2, 3], "pairs": {}}
    repeats.write_text(json.dumps({"tiny": {**spread, "metrics": {"resolution": [7.0, 7.1, 6.9]}}}))

    submitted, _ = reproduce.accepted(folder)
    plan, _ = reproduce.new_plan(submitted, "boxes")
    assert reproduce.image_steps(plan, print) == []
    found = reproduce.judge(folder, submitted, ran(reproduce.prepare(submitted, plan, contained)), [], repeats)
    assert (found.agrees, found.state.name) == (True, "valid")
    assert found.remarks[0] == f"The image is the same: {submitted.image.digest}."

    monkeypatch.setenv("TOY", "echo 5 >first.txt")
    found = reproduce.judge(folder, submitted, ran(reproduce.prepare(submitted, plan, contained)), [], repeats)
    assert (found.agrees, found.state.name) == (False, "valid")
    assert "resolution differ by more than the tolerance" in found.verdict
    shutil.copy(folder / "README.md", folder / "run/job.sh")
    assert f"run/job.sh: differs from its checksum in {SUMS}" in kit("submission", "verify", str(folder), code=1).stdout
