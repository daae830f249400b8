"""What happens to jobs on a cluster of several nodes (tests/slurm/start.sh): ranks on all of them, lost nodes, time limits,
full queues, a controller that goes away. Each run ends in the state that is true, and goes on from there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from conftest import ROOT, kit

from kit.core import paths
from kit.core.errors import KitError
from kit.images.built import sif_of
from kit.images.render import load_image
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.runs.record import load_run, read_stages
from kit.runs.states import current_state
from kit.runtimes import RUNTIMES, apptainer
from kit.schedulers import slurm
from kit.schedulers.job import Job

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode != 0,
        reason="no Slurm answers; sudo tests/slurm/start.sh starts one",
    ),
    pytest.mark.skipif(os.getuid() != 0, reason="needs root, to take nodes away"),
]

T = TypeVar("T")
STATE = Path("/var/lib/slurm-kittest")

# The nodes are one machine: they share their addresses, and Open MPI must be told which of them leads to the others. What
# Slurm tells the ranks lies in folders of their own, for they share /tmp too.
SITE = f"""
description = "The Slurm of the tests"
contact = "tests"
url = "https://localhost"
scheduler = "slurm"
max_nodes = 4
max_minutes = 60
cores = 4
bind = "none"
poll_seconds = 1
environment = {{ OMPI_MCA_btl_tcp_if_include = "lo" }}
[partitions.srun]
launcher = "srun"
pmi = "pmix"
queue = "test"
[partitions.mpirun]
launcher = "mpirun"
queue = "test"
[partitions.short]
launcher = "mpirun"
queue = "short"
max_minutes = 1
[partitions.one]
launcher = "mpirun"
queue = "test"
qos = "one"
exclusive = false
[container]
runtime = "RUNTIME"
mpi = "outside"
binds = {[f"{STATE}/tmp-n{number}" for number in (1, 2, 3, 4)]}
"""

# Every rank says where it is; then one process waits until the test lets it go on.
WAITING = """
title = "Ranks and a wait"
target = "it ends"
[images.relion-basic]
[card]
objective = "none"
formula = "none"
score = "none"
dataset = "none"
baseline = "none"
[sizes.tiny]
description = "nothing"
minutes = 5
[sizes.tiny.parameters]
number = 1
[[stages]]
name = "where"
command = "launch hostname >where.txt"
outputs = ["where.txt"]
[[stages]]
name = "work"
command = '''
echo begun >>work.txt
until [ -e "$PWD.go" ]; do sleep 0.2; done
echo done >>work.txt
'''
outputs = ["work.txt"]
[[metrics]]
name = "resolution"
description = "none"
unit = "angstrom"
direction = "lower"
stage = "work"
file = "work.star"
label = "general.rlnFinalResolution"
"""

# Ranks that speak with each other from container to container: each says what it got from all.
IN_CONTAINERS = WAITING.replace("relion-basic", "horovod").replace("hostname", "python3 ranks.py")
RANKS = """
import ctypes, os
mpi = ctypes.CDLL("libmpi.so.40")
mpi.MPI_Init(None, None)
world = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, "ompi_mpi_comm_world")))
rank, size = ctypes.c_int(), ctypes.c_int()
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Comm_size(world, ctypes.byref(size))
number = ctypes.c_char.in_dll(mpi, "ompi_mpi_int")
all_ranks = (ctypes.c_int * size.value)()
mpi.MPI_Allgather(ctypes.byref(rank), 1, ctypes.byref(number), all_ranks, 1, ctypes.byref(number), world)
print(list(all_ranks), os.uname().nodename, flush=True)
mpi.MPI_Finalize()
"""


def ask_slurm(*words: str) -> str:
    """What one of Slurm's commands says."""
    result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, f"{words}: {result.stderr}"
    return result.stdout.strip()


def until(ask: Callable[[], T], good: Callable[[T], bool], seconds: int = 60) -> T:
    """Asks again until the answer is good; the last answer when the time is up, for the test to judge."""
    answer = ask()
    for _ in range(seconds * 2):
        if good(answer):
            break
        time.sleep(0.5)
        answer = ask()
    return answer


def ended(job: str, seconds: int = 60) -> Job:
    return until(lambda: slurm.states([job])[job], lambda now: now.state == "gone", seconds)


def status(run: Path) -> str:
    """The state of a run and its reason, in the words of `kit status`."""
    return str(current_state(run, load_run(run)))


def pid_of(daemon: str) -> int:
    return int((STATE / f"{daemon}.pid").read_text())


def lose(node: str) -> None:
    """A node loses its power: all of its processes end at once. They are known by its host name."""
    host = os.readlink(f"/proc/{pid_of(f'slurmd-{node}')}/ns/uts")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if os.readlink(process / "ns/uts") == host:
                os.kill(int(process.name), signal.SIGKILL)


def stop(daemon: str) -> None:
    """Ends a daemon as its administrator would, so that it writes down what it knows."""
    process = Path(f"/proc/{pid_of(daemon)}")
    os.kill(int(process.name), signal.SIGTERM)
    assert until(process.exists, lambda there: not there) is False


def start() -> None:
    """Starts what was lost."""
    result = subprocess.run([ROOT / "tests/slurm/start.sh"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(autouse=True)
def whole() -> Iterator[None]:
    """Whatever a test takes away from the cluster is there again after it, and no job is left."""
    yield
    start()
    for partition in ("test", "short"):
        subprocess.run(["scancel", f"--partition={partition}"], capture_output=True)
    assert until(lambda: ask_slurm("squeue", "--noheader"), lambda jobs: not jobs) == ""


@pytest.fixture
def make(toy: Path) -> Callable[..., Path]:
    """make(PARTITION, nodes): a run of the waiting benchmark, of one rank on each node, that was not submitted yet."""
    (paths.PACKAGE / "benchmarks/toy/benchmark.toml").write_text(WAITING)
    (paths.PACKAGE / "sites/cluster.toml").write_text(SITE.replace("RUNTIME", "host"))

    def prepared(partition: str, nodes: int = 1, minutes: int | None = None) -> Path:
        request = Request("toy", site="cluster", partition=partition, nodes=nodes, ranks=nodes, minutes=minutes)
        return launch.prepare(make_plan(request), toy)

    return prepared


def go_on(run: Path) -> None:
    """Lets the run end."""
    run.with_name(f"{run.name}.go").touch()


def submitted(run: Path) -> str:
    return launch.submit(run).job


def working(run: Path) -> None:
    """Waits until the stage that waits has begun."""
    assert until(lambda: (run / "work.txt").exists(), bool), (run / "job.out").read_text()


def finishes(run: Path) -> None:
    """Lets a run end and sees it finished, with every stage done once."""
    go_on(run)
    state = until(lambda: status(run), lambda state: not state.startswith(("submitted", "running")))
    assert state == "finished", "".join(path.read_text() for path in (run / "job.out", *run.glob("logs/*")))


def continues(run: Path) -> None:
    """Resumes a run that was cut off, as its user would; what was done before is not done again."""
    kit("run", "--resume", str(run))
    finishes(run)
    assert [stage.name for stage in read_stages(run) if stage.exit_code == 0] == ["where", "work"]


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("partition", ["srun", "mpirun"])
def test_ranks_on_every_node(partition: str, nodes: int, make: Callable[..., Path]) -> None:
    run = make(partition, nodes)
    submitted(run)
    finishes(run)
    assert sorted((run / "where.txt").read_text().split()) == [f"n{number}" for number in range(1, nodes + 1)]


def test_node_that_dies(make: Callable[..., Path]) -> None:
    """The second node of a job, on which no script runs: Slurm notices, and ends the job."""
    run = make("srun", 2)
    job = submitted(run)
    working(run)
    lose("n2")
    ask_slurm("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    assert ended(job) == Job("gone", "NODE_FAIL")
    state = until(lambda: status(run), lambda state: state.startswith("failed"))
    assert state.startswith("failed: stage work: ")
    assert "NODE_FAIL" in state
    start()
    continues(run)


def test_first_node_dies_and_nobody_says_so(make: Callable[..., Path]) -> None:
    """The node of the script: nothing more is written down, and Slurm finds out when the node does not answer."""
    run = make("mpirun", 1)
    job = submitted(run)
    working(run)
    lose("n1")
    assert "running" in status(run)
    assert ended(job, seconds=120) == Job("gone", "NODE_FAIL")
    state = status(run)
    assert state.startswith("failed: stage work: killed")
    assert "NODE_FAIL" in state
    continues(run)


def test_time_limit(make: Callable[..., Path], tmp_path: Path) -> None:
    """A run is warned before its time is up, and says so itself; Slurm tells of the job that was not, and was killed."""
    bare = tmp_path / "bare.sh"
    bare.write_text("#!/bin/bash\n#SBATCH --partition=short --time=1 --output=/dev/null\nsleep 300\n")
    killed = slurm.submit(bare)
    run = make("short", minutes=1)
    submitted(run)
    working(run)
    state = until(lambda: status(run), lambda state: state.startswith("failed"), 150)
    assert state.startswith("failed: stage work: time limit of 1 minutes")
    assert ended(killed, 150) == Job("gone", "TIMEOUT")
    assert "interrupted" not in (run / "stages.jsonl").read_text()
    continues(run)
    # As long as squeue knows it and after, when sacct has to be asked.
    until(
        lambda: ask_slurm("squeue", "--noheader", "--states=all", "--format=%i"), lambda jobs: killed not in jobs.split(), 90
    )
    assert slurm.states([killed]) == {killed: Job("gone", "TIMEOUT")}


def test_cancelled_from_outside(make: Callable[..., Path]) -> None:
    run = make("mpirun", 2)
    job = submitted(run)
    working(run)
    ask_slurm("scancel", job)
    assert ended(job) == Job("gone", "CANCELLED by 0")
    state = status(run)
    assert state.startswith("failed: stage work: interrupted")
    assert "CANCELLED by 0" in state
    continues(run)


def test_cancelled_before_it_ran(make: Callable[..., Path]) -> None:
    """A signal to a script that has not started is refused by Slurm; the job is taken back all the same."""
    full = slurm.submit(sleeper(make("mpirun").parent, "--nodes=4 --exclusive"))
    run = make("mpirun")
    job = submitted(run)
    assert until(lambda: slurm.states([job])[job], lambda now: bool(now.reason)).state == "pending"
    kit("cancel", str(run))
    assert ended(job) == Job("gone", "CANCELLED by 0")
    assert not read_stages(run)
    slurm.cancel(full)
    continues(run)


def sleeper(folder: Path, directives: str) -> Path:
    script = folder / f"sleeper-{len(list(folder.iterdir()))}.sh"
    script.write_text(f"#!/bin/bash\n#SBATCH --output=/dev/null {directives}\nsleep 600\n")
    return script


def test_full_queue(make: Callable[..., Path]) -> None:
    run = make("srun", 2)
    full = slurm.submit(sleeper(run.parent, "--nodes=4 --exclusive"))
    job = submitted(run)
    assert until(lambda: slurm.states([job])[job], lambda now: now.reason == "Resources") == Job("pending", "Resources")
    assert status(run).startswith("submitted")
    slurm.cancel(full)
    finishes(run)


def test_more_jobs_than_one_may_have_running(make: Callable[..., Path]) -> None:
    first, second = make("one"), make("one")
    submitted(first)
    working(first)
    job = submitted(second)
    reason = "QOSMaxJobsPerUserLimit"
    assert until(lambda: slurm.states([job])[job], lambda now: now.reason == reason) == Job("pending", reason)
    finishes(first)
    finishes(second)


def test_controller_goes_away_for_a_while(make: Callable[..., Path]) -> None:
    """Whoever asks meanwhile is told that nobody answers; the job goes on, and nobody takes it for gone."""
    run = make("srun", 2)
    job = submitted(run)
    working(run)
    stop("slurmctld")
    with pytest.raises(KitError, match="controller"):
        slurm.states([job])
    start()
    assert until(lambda: slurm.states([job])[job], lambda now: now == Job("running")) == Job("running")
    assert status(run) == "running"
    finishes(run)


def test_job_goes_on_while_the_controller_is_away(make: Callable[..., Path]) -> None:
    """It ends meanwhile: its own record says so, to whom the scheduler cannot tell."""
    run = make("mpirun")
    submitted(run)
    working(run)
    stop("slurmctld")
    go_on(run)
    assert until(lambda: (run / "work.txt").read_text().split(), lambda words: "done" in words) == ["begun", "done"]
    start()
    finishes(run)


def test_accounting_goes_away(make: Callable[..., Path]) -> None:
    """Without slurmdbd the jobs go on; why an old one ended is not known then."""
    run = make("mpirun")
    job = submitted(run)
    working(run)
    stop("slurmdbd")
    assert slurm.states([job, "999999"]) == {job: Job("running"), "999999": Job("gone")}
    finishes(run)


def test_one_job_after_another_and_arrays(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(
        "#!/bin/bash\n#SBATCH --output=/dev/null --time=5\n"
        f'echo "${{{slurm.ARRAY}:-0}}" >>said.txt\nuntil [ -e go ]; do sleep 0.2; done\nexit "${{{slurm.ARRAY}:-0}}"\n'
    )
    first = slurm.submit(script, tasks=3)
    second = slurm.submit(script, after=first)
    tasks = [slurm.task(first, index) for index in (1, 2, 3)]
    found = until(
        lambda: slurm.states([*tasks, second]),
        lambda found: [found[task].state for task in tasks] == ["running"] * 3 and bool(found[second].reason),
    )
    assert found == {**dict.fromkeys(tasks, Job("running")), second: Job("pending", "Dependency")}

    def said() -> list[str]:
        return sorted((tmp_path / "said.txt").read_text().split()) if (tmp_path / "said.txt").exists() else []

    assert until(said, lambda words: len(words) == 3) == ["1", "2", "3"]  # a job runs before its script has begun
    slurm.cancel(tasks[2])
    (tmp_path / "go").touch()
    assert ended(tasks[0]) == ended(tasks[1]) == Job("gone", "FAILED")  # as their exit codes say
    assert ended(second) == Job("gone", "COMPLETED")  # and yet it ran: after them, however they ended
    assert said() == ["0", "1", "2", "3"]


def test_kit_within_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Slurm told that job would make srun in the new one refuse its memory, or take another number of tasks."""
    for key, value in {"SLURM_MEM_PER_CPU": "100", "SLURM_NTASKS": "3", "SBATCH_PARTITION": "nowhere"}.items():
        monkeypatch.setenv(key, value)
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#SBATCH --output=job.out --time=5 --mem=200M\nsrun echo told >>told.txt\n")
    assert ended(slurm.submit(script)) == Job("gone", "COMPLETED"), (tmp_path / "job.out").read_text()
    assert (tmp_path / "told.txt").read_text() == "told\n"


@pytest.mark.parametrize(("partition", "nodes", "ranks"), [("srun", 1, 2), ("srun", 2, 2), ("srun", 2, 3), ("mpirun", 2, 2)])
def test_containers_on_several_nodes_form_one_job(
    partition: str, nodes: int, ranks: int, toy: Path, monkeypatch: pytest.MonkeyPatch, real_image: Callable[[str], Path]
) -> None:
    """Of Open MPI 4.1; test_slurm.py does the same with RELION, which has Open MPI 5."""
    image = real_image("horovod")
    monkeypatch.setitem(RUNTIMES, "apptainer", apptainer)
    (paths.PACKAGE / "benchmarks/toy/benchmark.toml").write_text(IN_CONTAINERS)
    (paths.PACKAGE / "sites/cluster.toml").write_text(SITE.replace("RUNTIME", "apptainer"))
    (paths.cache() / "images").mkdir(parents=True)
    (paths.cache() / "images" / image.name).symlink_to(image)
    for described in image.parent.glob(f"{image.stem}*.json"):
        (paths.cache() / "images" / described.name).symlink_to(described)
    run = launch.prepare(make_plan(Request("toy", site="cluster", partition=partition, nodes=nodes, ranks=ranks)), toy)
    (run / "ranks.py").write_text(RANKS)
    submitted(run)
    finishes(run)
    said = (run / "where.txt").read_text().splitlines()
    assert [line.rpartition(" ")[0] for line in said] == [str(list(range(ranks)))] * ranks
    assert {line.rpartition(" ")[2] for line in said} == {f"n{number}" for number in range(1, nodes + 1)}
    assert "PMIX ERROR" not in (run / "logs/where.err").read_text()


@pytest.fixture(scope="session")
def real_image() -> Callable[[str], Path]:
    """The file of an image in the cache of the machine, asked for before a test puts another cache in its place."""
    cache = paths.cache

    def find(name: str) -> Path:
        with pytest.MonkeyPatch.context() as here:
            here.setattr(paths, "cache", cache)
            return sif_of(load_image(name))

    return find
