"""A real Slurm (tests/slurm/start.sh): real jobs that run containers, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
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
from kit.runs.record import load_run, read_stages
from kit.schedulers import slurm

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode != 0,
        reason="no Slurm answers; sudo tests/slurm/start.sh starts one",
    ),
]

# Ranks outside the container, one each: the way of every cluster. The nodes of this one share their addresses, and what
# Slurm tells the ranks lies in folders of their own, for they share /tmp too (tests/slurm/start.sh).
SITE = """
description = "The Slurm of the tests"
contact = "tests"
url = "https://localhost"
scheduler = "slurm"
queue = "test"
max_nodes = 4
max_minutes = 60
cores = 4
bind = "none"  # the machine may have fewer
environment = { OMPI_MCA_btl_tcp_if_include = "lo" }
[partitions.mpirun]
launcher = "mpirun"
[partitions.srun]
launcher = "srun"
pmi = "pmix"
[container]
runtime = "apptainer"
mpi = "outside"
binds = ["/var/lib/slurm-kittest/tmp-n1", "/var/lib/slurm-kittest/tmp-n2", "/var/lib/slurm-kittest/tmp-n3"]
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
command = "launch sh -c 'echo $(id -u) $(hostname)' >who.txt"
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


@pytest.fixture(scope="session")
def for_all() -> Iterator[Path]:
    """A folder that every user can read, as none of pytest's own is, and in it a cache with the image, and soon the data."""
    with tempfile.TemporaryDirectory(prefix="kit-slurm-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "cache/images").mkdir(parents=True)
        image = sif_of(load_image("relion-basic"))
        copy = folder / "cache/images" / image.name
        if image.stat().st_dev == folder.stat().st_dev:
            copy.hardlink_to(image)
        else:
            shutil.copy(image, copy)
        yield folder


@pytest.fixture
def run(for_all: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A prepared run of the small benchmark, by this launcher on so many nodes."""
    partition, nodes = request.param
    package = for_all / "package"
    (package / "benchmarks/relion").mkdir(parents=True, exist_ok=True)
    (package / "benchmarks/relion/benchmark.toml").write_text(SMALL)
    (package / "test.toml").write_text(SITE)
    monkeypatch.setattr(relion.CODE, "GENERATOR", ())
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setattr(paths, "cache", lambda: for_all / "cache")
    asked = Request("relion", site=str(package / "test.toml"), partition=partition, nodes=nodes)
    return launch.prepare(make_plan(asked), for_all / "runs")


@pytest.mark.parametrize(
    ("run", "who"),
    [
        (("mpirun", 1), "root"),
        (("mpirun", 1), "kittest"),
        (("mpirun", 2), "kittest"),
        (("mpirun", 3), "root"),
        (("srun", 1), "kittest"),
        (("srun", 2), "root"),
        (("srun", 3), "kittest"),
    ],
    indirect=["run"],
)
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
    assert [(stage.name, stage.exit_code) for stage in read_stages(run)] == [("ranks", 0), ("class3d", 0), ("who", 0)], said
    assert formed_ranks(run / "logs/class3d.out") == 3
    lines = (run / "who.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [str(user.pw_uid)] * 3
    assert (run / "Class3D/run_it001_model.star").stat().st_uid == user.pw_uid
    rendering = load_run(run).rendering
    assert rendering is not None
    assert rendering.nodes == len({line.split()[1] for line in lines})


@pytest.mark.parametrize("run", [("srun", 1)], indirect=True)
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
    path.write_text(SITE.replace('queue = "test"', 'queue = "nowhere"'))
    result = kit("run", "relion", "--size", "particles", "--site", str(path), "--runs", str(tmp_path / "runs"), code=1)
    assert "invalid partition" in result.stderr
    run = next((tmp_path / "runs/relion").iterdir())
    assert "rendered" in kit("status", str(run)).stdout


def test_cancelled_job_says_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "test.toml"
    path.write_text(SITE)
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


@pytest.mark.full
def test_a_node_is_tuned_by_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kit tune` where a scheduler starts the trial, and a run that its choice is for."""
    monkeypatch.setenv("KIT_CONFIG", str(tmp_path / "config/kit.toml"))
    path = tmp_path / "tuned.toml"
    path.write_text(SITE)
    words = ["relion", "--site", str(path), "--partition", "mpirun", "--size", "tiny", "--image", "relion-basic"]
    few = ["--particles", "20", "--repeat", "2", "--runs", str(tmp_path / "runs")]
    found = json.loads(kit("tune", *words, *few, "--json").stdout)
    assert [one["problem"] for one in found["tried"]] == [""] * len(found["tried"])
    assert len(found["tried"]) > 1
    assert min(min(one["seconds"]) for one in found["tried"]) > 0.5  # RELION worked: nothing that only started and ended
    (directory,) = (tmp_path / "runs/tune").iterdir()
    trial = load_run(directory)
    assert trial.scheduler == "slurm"
    assert slurm.states([trial.job])[trial.job].state == "gone"
    assert formed_ranks(directory / "logs/m001.out") == 3
    script = kit("run", *words, "--dry-run").stdout
    assert "\n# Tuning: " in script
    assert "# Tuning" not in kit("run", *[word.replace("mpirun", "srun") for word in words], "--dry-run").stdout
