"""kit doctor on this machine with a real image: a job that passes, and each fault that it has to find."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit.core.errors import KitError
from kit.doctor import job as doctor_job
from kit.doctor import judge as doctor_judge
from kit.doctor.outcome import Checked, Outcome
from kit.images.built import sif_of, starter
from kit.images.render import load_image
from kit.runs import launch

IMAGE = "relion-basic"
SITE = """description = "d"
contact = "c"
url = "u"
[partitions.main]
scheduler = "local"
bind = "none"
[container]
runtime = "apptainer"
mpi = "inside"
"""


@pytest.fixture(autouse=True)
def built() -> None:
    if not starter() or not sif_of(load_image(IMAGE)).is_file():
        pytest.skip(f"no SIF of {IMAGE}: kit image build {IMAGE}")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SITE)
    return path


def tried(site: Path, runs: Path, benchmark: str | None = None) -> Outcome:
    directory = doctor_job.prepare(doctor_job.plan(str(site), benchmark=benchmark, image_name=IMAGE), runs, benchmark)
    launch.submit(directory)
    launch.wait(directory, lambda state: None)
    return doctor_judge.judge(directory)


def of(outcome: Outcome, name: str) -> Checked:
    return next(check for check in outcome.checks if check.name == name)


def failed(outcome: Outcome) -> list[str]:
    return [check.name for check in outcome.checks if check.verdict == "FAIL"]


def test_a_machine_that_can(site: Path, tmp_path: Path) -> None:
    outcome = tried(site, tmp_path / "runs")
    assert failed(outcome) == []
    assert [check.name for check in outcome.checks] == [
        *("job", "runtime", "start", "clock", "limits", "binds", "space", "mpi_inside", "ranks")
    ]
    assert "2 ranks on" in of(outcome, "ranks").detail
    assert "one job of Open MPI" in of(outcome, "ranks").detail
    assert of(outcome, "start").detail.endswith("Debian GNU/Linux 13 (trixie)")
    assert outcome.digest.startswith("sha256:")


def test_data_are_compared_where_the_job_runs(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.star").write_text("a")
    (data / "manifest.json").write_text('{"a.star": {"bytes": 1, "sha256": "' + "0" * 64 + '"}}')
    monkeypatch.setattr(doctor_job, "data_of", lambda benchmark: data)
    outcome = tried(site, tmp_path / "runs", "relion")
    assert failed(outcome) == ["data"]
    assert "1 computed checksum did NOT match" in of(outcome, "data").detail


def test_an_absent_folder(site: Path, tmp_path: Path) -> None:
    site.write_text(SITE + 'binds = ["/not/there"]\n')
    outcome = tried(site, tmp_path / "runs")
    assert of(outcome, "job").verdict == "FAIL"
    assert "/not/there is not on" in of(outcome, "job").detail


def test_a_folder_that_cannot_be_written(site: Path, tmp_path: Path) -> None:
    """/proc/bus takes no files of anybody; a container gets it as it is."""
    site.write_text(SITE + 'binds = ["/proc/bus:/readable", "/proc/bus:/fixed:ro"]\n')
    outcome = tried(site, tmp_path / "runs")
    assert failed(outcome) == ["binds"]
    assert of(outcome, "binds").detail == "unwritable /readable in the container"
    assert "with :ro behind it" in of(outcome, "binds").fix


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_quota(site: Path, small: Path) -> None:
    outcome = tried(site, small)
    assert failed(outcome) == ["space"]
    assert "No space left on device" in of(outcome, "space").detail
    assert "make room" in of(outcome, "space").fix


def test_a_scratch_that_is_full(site: Path, small: Path, tmp_path: Path) -> None:
    site.write_text(SITE.replace('bind = "none"', f'bind = "none"\nscratch = "{small}"'))
    outcome = tried(site, tmp_path / "runs")
    assert failed(outcome) == ["space"]
    assert f"{small} cannot take" in of(outcome, "space").detail


def test_more_cores_than_there_are(site: Path, tmp_path: Path) -> None:
    site.write_text(SITE.replace('bind = "none"', 'bind = "none"\ncores = 4096\nmemory_gb = 40000'))
    outcome = tried(site, tmp_path / "runs")
    assert "limits" in failed(outcome)
    assert "and 4096 are to be used" in of(outcome, "limits").detail
    assert of(outcome, "limits").fix.startswith("partitions.main.cores: ")


def test_more_memory_than_there_is(site: Path, tmp_path: Path) -> None:
    site.write_text(SITE.replace('bind = "none"', 'bind = "none"\nmemory_gb = 40000'))
    assert failed(tried(site, tmp_path / "runs")) == ["limits"]


def test_a_launcher_that_starts_strangers(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two processes know nothing of each other, and each becomes rank 0 of 1."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "mpirun").write_text(
        '#!/bin/bash\n[ "$1" != --version ] || { echo "mpirun (Open MPI) 4.1.4"; exit; }\n'
        'while [ "$1" != apptainer ] && [ "$1" != singularity ]; do shift; done\n'
        '"$@" & "$@"; status=$?; wait; exit $status\n'
    )
    (folder / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    site.write_text(SITE.replace('"inside"', '"outside"'))
    outcome = tried(site, tmp_path / "runs")
    assert failed(outcome) == ["ranks"]
    assert "2 ranks were asked for, and the MPI of this image" in of(outcome, "ranks").detail
    assert of(outcome, "ranks").fix


def test_an_image_that_does_not_start(site: Path, tmp_path: Path) -> None:
    site.write_text(SITE + 'args = ["--no-such-option"]\n')
    outcome = tried(site, tmp_path / "runs")
    assert {"start", "binds", "ranks"} <= set(failed(outcome))
    assert "--no-such-option" in of(outcome, "start").detail
    assert of(outcome, "ranks").detail == "not looked at, since the image does not start"


def test_a_module_that_is_not_there(site: Path, tmp_path: Path) -> None:
    site.write_text(SITE.replace('bind = "none"', 'bind = "none"\nmodules = ["nothing/1.0"]'))
    outcome = tried(site, tmp_path / "runs")
    assert of(outcome, "job").verdict == "FAIL"
    assert "module" in of(outcome, "job").detail
    assert of(outcome, "job").fix.startswith("modules and module_use")


def test_an_image_that_is_not_built(site: Path) -> None:
    site.write_text(SITE)
    with pytest.raises(KitError, match=r"not built|kit image build"):
        doctor_job.prepare(doctor_job.plan(str(site), image_name="relion-cuda"), Path("/nowhere"))
