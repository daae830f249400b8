"""A real Grid Engine (tests/gridengine/start.sh): real jobs that run containers, as root and as an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import kit

from kit.benchmarks import relion
from kit.benchmarks.relion.judge import formed_ranks
from kit.core import paths
from kit.core.errors import KitError
from kit.images.built import sif_of
from kit.images.render import load_image
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.record import read_stages
from kit.schedulers import Job, JobState, gridengine

pytestmark = [
    pytest.mark.gridengine,
    pytest.mark.skipif(
        shutil.which("qstat") is None or subprocess.run(["qstat"], capture_output=True).returncode != 0,
        reason="no Grid Engine answers; sudo tests/gridengine/start.sh starts one",
    ),
]

# All ranks in one container, by the image's own mpirun, in whose way Grid Engine's variables stand.
SITE = """
description = "The Grid Engine of the tests"
contact = "tests"
url = "https://localhost"
[partitions.test]
scheduler = "gridengine"
queue = "all.q"
parallel_environment = "mpi"
memory_request = "core"
memory_gb = 16
max_minutes = 60
cores = 4
bind = "none"
[container]
runtime = "apptainer"
mpi = "inside"
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
"""

STAGES = """
[[stages]]
name = "class3d"
command = '''
launch relion_refine_mpi --i data/particles.star --o Class3D/run --ref data/reference.mrc --firstiter_cc --ini_high 60 \\
    --iter 1 --K 1 --healpix_order 0 --offset_range 2 --offset_step 1 --ctf --particle_diameter 310 --random_seed 1 --j 1
'''
outputs = ["Class3D/run_it001_model.star"]
[[stages]]
name = "who"
command = "launch sh -c 'id -u; ulimit -v' >who.txt"
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

LONG = """
[[stages]]
name = "wait"
command = "launch sleep 300"
outputs = ["nothing.txt"]
[[metrics]]
name = "none"
description = "none"
unit = "none"
direction = "lower"
stage = "wait"
file = "nothing.txt"
label = "none"
"""

DIRECTIVES = "#!/bin/bash\n#$ -S /bin/bash\n#$ -cwd\n#$ -o job.out\n#$ -j y\n#$ -notify\n"


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """No job is left over, which would hold up the tests after it, or whatever else this machine is for."""
    yield
    subprocess.run(["qdel", "-u", "*"], capture_output=True)


def until(job: str, state: JobState, seconds: int = 60) -> Job:
    """The job, once it is in a state."""
    for _ in range(2 * seconds):
        now = gridengine.states([job])[job]
        if now.state == state:
            return now
        time.sleep(0.5)
    raise AssertionError(f"job {job}: {now}")


def reason(job: str) -> str:
    """How a job ended, once the accounting knows."""
    for _ in range(30):
        said = until(job, "gone").reason
        if said:
            return said
        time.sleep(0.5)
    return ""


def script(folder: Path, *lines: str) -> Path:
    path = folder / "job.sh"
    path.write_text(DIRECTIVES + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder that every user can read, which pytest's own are not, with the image and, once made, the data."""
    folder = Path(tempfile.mkdtemp(prefix="kit-gridengine-"))
    folder.chmod(0o755)
    image = sif_of(load_image("relion-basic"))
    (folder / "cache/images").mkdir(parents=True)
    copy = folder / "cache/images" / image.name
    if image.stat().st_dev == folder.stat().st_dev:
        copy.hardlink_to(image)
    else:
        shutil.copy(image, copy)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def prepared(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Prepares a run of the small benchmark, or of one of these stages, where every user can read it."""
    benchmark = shared / "package/benchmarks/relion/benchmark.toml"
    benchmark.parent.mkdir(parents=True, exist_ok=True)
    site = shared / "package/test.toml"
    site.write_text(SITE)
    monkeypatch.setattr(relion.CODE, "GENERATOR", ())
    monkeypatch.setattr(paths, "PACKAGE", shared / "package")
    monkeypatch.setattr(paths, "cache", lambda: shared / "cache")

    def prepare(stages: str = STAGES, minutes: int | None = None) -> Path:
        benchmark.write_text(SMALL + stages)
        # A path with what a directive would break at: Grid Engine is told none.
        return launch.prepare(make_plan(Request("relion", site=str(site), minutes=minutes)), shared / "it's #1 & 100%")

    return prepare


@pytest.mark.parametrize("who", ["root", "kittest"])
def test_ranks_of_a_job_form_one_job(who: str, prepared: Callable[..., Path], ordinary_user: pwd.struct_passwd) -> None:
    run, user = prepared(), pwd.getpwnam(who)
    subprocess.run(["chown", "-R", who, str(run)], check=True)
    # As the user would: from the run directory, by Grid Engine's own command.
    answer = subprocess.run(
        ["qsub", "-terse", "job.sh"],
        cwd=run,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "HOME": user.pw_dir, "USER": who},
        capture_output=True,
        text=True,
        check=True,
    )
    until(answer.stdout.strip(), "gone", 120)
    said = "".join(path.read_text(errors="replace")[-2000:] for path in (*run.glob("logs/*.err"), run / "job.out"))
    assert [(stage.name, stage.exit_code) for stage in read_stages(run)] == [("ranks", 0), ("class3d", 0), ("who", 0)], said
    assert formed_ranks(run / "logs/class3d.out") == 3
    # The memory of four slots, as Grid Engine gives it.
    kilobytes = 4 * (int(16e9 / 2**20 / 4) * 1024)
    assert sorted((run / "who.txt").read_text().split()) == sorted([str(user.pw_uid), str(kilobytes)] * 3)
    assert (run / "Class3D/run_it001_model.star").stat().st_uid == user.pw_uid
    assert reason(answer.stdout.strip()) == ""


def test_job_past_its_time_limit_says_so(prepared: Callable[..., Path]) -> None:
    """Grid Engine warns it; its stage has ended, and is recorded, before the limit would kill it."""
    run = prepared(LONG, minutes=1)
    job = launch.submit(run).job
    until(job, "gone", 120)
    _, stage = read_stages(run)
    assert (stage.name, stage.exit_code, stage.reason) == ("wait", 130, "time limit of 1 minutes")
    assert reason(job) == "exit status 130 (Interrupt)"
    assert (run / "job.out").read_text() == "ranks: done\nwait: time limit of 1 minutes\n"


def test_cancelled_job_says_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "test.toml"
    path.write_text(SITE)
    run = kit("run", "relion", "--size", "particles", "--site", str(path), "--runs", str(tmp_path / "runs")).stdout.strip()
    for _ in range(120):
        if Path(run, "stages.jsonl").is_file() and "class2d" in Path(run, "stages.jsonl").read_text():
            break
        time.sleep(0.5)
    assert "running" in kit("status", run).stdout
    assert "failed: stage class2d: interrupted" in kit("cancel", run).stdout
    assert "interrupted" in kit("collect", run, code=1).stdout


def test_job_that_grid_engine_refuses(tmp_path: Path) -> None:
    """A wrong queue is Grid Engine's to find out; its words reach the user, and the run stays unlaunched."""
    path = tmp_path / "test.toml"
    path.write_text(SITE.replace("all.q", "nowhere"))
    result = kit("run", "relion", "--size", "particles", "--site", str(path), "--runs", str(tmp_path / "runs"), code=1)
    assert 'unknown queue "nowhere"' in result.stderr
    run = next((tmp_path / "runs/relion").iterdir())
    assert "rendered" in kit("status", str(run)).stdout


def test_array_and_the_job_that_waits_for_it(tmp_path: Path) -> None:
    """Each task knows its number and has a state of its own; a held job starts when the last has ended, however it did."""
    array = gridengine.submit(
        script(tmp_path, f"echo ${gridengine.ARRAY} >>ran", f"[ ${gridengine.ARRAY} = 1 ] && exit 3; sleep 60"), tasks=3
    )
    held = gridengine.submit(script(tmp_path, "echo held >>ran"), after=array)
    first, second, third = (gridengine.task(array, index) for index in (1, 2, 3))
    until(third, "running")
    until(first, "gone")
    now = gridengine.states([array, first, second, third, held])
    assert [now[job].state for job in (array, first, second, third, held)] == [
        "running",
        "gone",
        "running",
        "running",
        "pending",
    ]
    assert now[held].reason == "held until another job ends"
    gridengine.cancel(second)
    until(second, "gone")
    assert gridengine.states([third])[third].state == "running"
    gridengine.cancel(array)
    until(held, "gone")
    ran = (tmp_path / "ran").read_text().split()
    assert sorted(ran[:-1]) == ["1", "2", "3"]
    assert ran[-1] == "held"
    assert reason(first) == "exit status 3"
    gridengine.cancel(array)  # has ended: nothing to do


def test_time_limit_that_is_not_heeded(tmp_path: Path) -> None:
    job = gridengine.submit(script(tmp_path, "#$ -l h_rt=2", "trap '' USR1 USR2", "while :; do sleep 1; done"))
    assert "h_rt" in reason(job)


def test_job_in_error_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    path = script(folder, "#$ -h", "true")
    job = gridengine.submit(path)
    assert until(job, "pending").reason == "held until another job ends"
    shutil.rmtree(folder)
    subprocess.run(["qrls", job], check=True, capture_output=True)
    for _ in range(60):
        said = gridengine.states([job])[job].reason
        if "chdir" in said:
            break
        time.sleep(0.5)
    assert said == f"error: can't chdir to {folder}: No such file or directory"


def test_job_that_is_not_known() -> None:
    assert gridengine.states(["999999", "999999.2"]) == {"999999": Job("gone"), "999999.2": Job("gone")}
    with pytest.raises(KitError, match="qsub"):
        gridengine.submit(Path("/nowhere.sh"))
