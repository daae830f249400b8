"""A real Slurm (tests/slurm/start.sh): real jobs that run containers, as root and as an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import kit

from kit.benchmarks import relion
from kit.benchmarks.relion.judge import formed_ranks
from kit.core import paths
from kit.images.built import sif_of
from kit.images.render import load_image
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.record import read_stages
from kit.schedulers import slurm

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode != 0,
        reason="no Slurm answers; sudo tests/slurm/start.sh starts one",
    ),
]

# Ranks outside the container, one each: the way of every cluster.
SITE = """
description = "The Slurm of the tests"
contact = "tests"
url = "https://localhost"
[partitions.test]
scheduler = "slurm"
launcher = "LAUNCHER"
queue = "test"
max_minutes = 60
cores = 4
[container]
runtime = "apptainer"
mpi = "outside"
"""

# A benchmark small enough to run whole: Class3D of one iteration on all ranks.
SMALL = """
title = "RELION, one iteration"

target = "three ranks form one job"
[images.relion-basic]
[card]
objective = "none"
formula = "none"
score = "none"
dataset = "none"
baseline = "none"
[sizes.tiny]
description = "60 particles"
minutes = 10
ranks = 3
[sizes.tiny.parameters]
particles = 60
[[stages]]
name = "class3d"
command = '''
launch relion_refine_mpi --i data/particles.star --o Class3D/run --ref data/reference.mrc --firstiter_cc --ini_high 60 \\
    --iter 1 --K 1 --healpix_order 0 --offset_range 2 --offset_step 1 --ctf --particle_diameter 310 --random_seed 1 --j 1
'''
outputs = ["Class3D/run_it001_model.star"]
[[stages]]
name = "who"
command = "launch id -u >who.txt"
outputs = ["who.txt"]
[[metrics]]
name = "resolution"
description = "of the only iteration"
unit = "angstrom"
direction = "lower"
stage = "class3d"
file = "Class3D/run_it001_model.star"
label = "model_general.rlnCurrentResolution"
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A prepared run of the small benchmark, its image and data, where every user can read them."""
    package, cache = tmp_path / "package", tmp_path / "cache"
    (package / "benchmarks/relion").mkdir(parents=True)
    (package / "benchmarks/relion/benchmark.toml").write_text(SMALL)
    (package / "test.toml").write_text(SITE.replace("LAUNCHER", request.param))
    image = sif_of(load_image("relion-basic"))
    (cache / "images").mkdir(parents=True)
    copy = cache / "images" / image.name
    if image.stat().st_dev == tmp_path.stat().st_dev:
        copy.hardlink_to(image)
    else:
        shutil.copy(image, copy)
    monkeypatch.setattr(relion.CODE, "GENERATOR", ())
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setattr(paths, "cache", lambda: cache)
    for parent in (tmp_path, *tmp_path.parents[:2]):  # pytest keeps its folders from others
        parent.chmod(0o755)
    return launch.prepare(make_plan(Request("relion", site=str(package / "test.toml"))), tmp_path / "runs")


@pytest.mark.parametrize("run", ["mpirun"], indirect=True)
@pytest.mark.parametrize("who", ["root", "kittest"])
def test_ranks_of_a_slurm_job_form_one_job(
    who: str, run: Path, ordinary_user: pwd.struct_passwd, request: pytest.FixtureRequest
) -> None:
    user = pwd.getpwnam(who)
    subprocess.run(["chown", "-R", who, str(run)], check=True)
    # As the user would: from the run directory, by Slurm's own command.
    answer = subprocess.run(
        ["sbatch", "--parsable", "job.sh"],
        cwd=run,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "HOME": user.pw_dir, "USER": who},
        capture_output=True,
        text=True,
        check=True,
    )
    job = answer.stdout.strip()
    request.addfinalizer(lambda: subprocess.run(["scancel", "--quiet", job]))  # or it would hold up the tests after it
    for _ in range(120):
        if slurm.states([job])[job].state == "gone":
            break
        time.sleep(0.5)
    said = "".join(path.read_text(errors="replace")[-2000:] for path in (*run.glob("logs/*.err"), run / "job.out"))
    assert [(stage.name, stage.exit_code) for stage in read_stages(run)] == [("class3d", 0), ("who", 0)], said
    assert formed_ranks(run / "logs/class3d.out") == 3
    assert (run / "who.txt").read_text().split() == [str(user.pw_uid)] * 3
    assert (run / "Class3D/run_it001_model.star").stat().st_uid == user.pw_uid
    assert "#SBATCH --ntasks-per-node=3" in (run / "job.sh").read_text()


@pytest.mark.parametrize("run", ["srun"], indirect=True)
def test_srun_starts_every_rank_in_a_container(run: Path) -> None:
    """The words before a program, as the script has them, with srun as launcher: three containers, three tasks."""
    lines = (run / "job.sh").read_text().splitlines()
    start = lines.index("launch() {") + 1
    command = "\n".join(lines[start : lines.index("}", start)]).replace('"$@"', "sh -c 'echo rank $SLURM_PROCID'")
    result = subprocess.run(["bash", "-c", command], cwd=run, capture_output=True, text=True, timeout=120)
    assert sorted(result.stdout.splitlines()) == ["rank 0", "rank 1", "rank 2"], result.stderr


def test_job_that_slurm_refuses(tmp_path: Path) -> None:
    """A wrong queue is Slurm's to find out; its words reach the user, and the run stays unlaunched."""
    path = tmp_path / "test.toml"
    path.write_text(SITE.replace("LAUNCHER", "mpirun").replace('queue = "test"', 'queue = "nowhere"'))
    result = kit("run", "relion", "--size", "particles", "--site", str(path), "--runs", str(tmp_path / "runs"), code=1)
    assert "invalid partition" in result.stderr
    run = next((tmp_path / "runs/relion").iterdir())
    assert "rendered" in kit("status", str(run)).stdout


def test_cancelled_job_says_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "test.toml"
    path.write_text(SITE.replace("LAUNCHER", "mpirun"))
    run = kit("run", "relion", "--size", "particles", "--site", str(path), "--runs", str(tmp_path / "runs")).stdout.strip()
    for _ in range(60):
        if "running" in kit("status", run).stdout:
            break
        time.sleep(0.5)
    time.sleep(2)
    assert "failed: stage class2d: interrupted" in kit("cancel", run).stdout
    assert "interrupted" in kit("collect", run, code=1).stdout
    assert "only a valid run" in kit("submission", "pack", run, code=1).stderr


def test_job_that_slurm_forgot(tmp_path: Path) -> None:
    assert slurm.states(["999999"])["999999"].state == "gone"
