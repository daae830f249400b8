"""kit-ranks in real images, under real launchers: what it lets through, and each thing that it must refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kit.images.built import built_sif
from kit.images.recipes import RECIPES
from kit.images.render import load_image
from kit.launchers import Ranks, mpirun
from kit.stages.ml.ranks import LOCAL_SIZES, RANKS, SIZES

IMAGES = [name for name, recipe in RECIPES.items() if recipe.TESTED and recipe.MPI]
IMAGE = IMAGES[0]

# A driver of NVIDIA whose GPUs are the letters of a variable.
DRIVER = """
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { return flags != 0; }
int cuDeviceGetCount(int *count) { *count = (int)strlen(getenv("GPUS")); return 0; }
int cuDeviceGetUuid_v2(unsigned char *id, int device) { memset(id, getenv("GPUS")[device], 16); return 0; }
"""


@dataclass(frozen=True)
class Said:
    code: int
    ranks: list[dict[str, object]]
    problems: list[str]
    stderr: str


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Said:
    variables = {name: value for name, value in os.environ.items() if name not in {*SIZES, *LOCAL_SIZES, *RANKS}}
    done = subprocess.run(
        list(map(str, command)), env={**variables, **(environment or {})}, capture_output=True, text=True, timeout=300
    )
    ranks = [json.loads(line) for line in done.stdout.splitlines()]
    problems = [line for line in done.stderr.splitlines() if line.startswith("kit-ranks: ")]
    return Said(done.returncode, ranks, problems, done.stderr)


def in_image(name: str = IMAGE, *options: str | Path) -> list[str]:
    return list(map(str, ["apptainer", "-q", "exec", "--no-privs", "--no-home", *options, built_sif(load_image(name))]))


def inside(ranks: int, *words: str, name: str = IMAGE) -> Said:
    """With the image's own mpirun, as the local site calls it."""
    return run([*in_image(name), *mpirun.command(Ranks(ranks, ranks, 1), []), "kit-ranks", *words])


def two(first: str, second: str, *options: str | Path, name: str = IMAGE) -> Said:
    """Two ranks, each of which is a command of its own. (Between them, a `:` makes mpirun of 5.0.7 fail.)"""
    command = f'if [ "$OMPI_COMM_WORLD_RANK" = 0 ]; then exec {first}; else exec {second}; fi'
    return run([*in_image(name, *options), *mpirun.command(Ranks(2, 2, 1), []), "sh", "-c", command])


@pytest.mark.parametrize("name", IMAGES)
def test_a_job_as_planned_is_let_through(name: str) -> None:
    said = inside(3, "--ranks", "3", "--nodes", "1", "--ranks-per-node", "3", "--threads", "1", name=name)
    assert (said.code, said.problems) == (0, []), said.stderr
    assert [rank["rank"] for rank in said.ranks] == [0, 1, 2]
    for rank in said.ranks:
        assert rank["size"] == 3
        assert rank["host"] == os.uname().nodename
        assert re.fullmatch(r"[\d,-]+", str(rank["cores"]))
        assert rank["gpus"] == []
        assert re.fullmatch(r"Open MPI v\d+\.\d+\.\d+", str(rank["mpi"]))
        assert str(rank["launcher"]).startswith("OMPI_COMM_WORLD_SIZE=3 ")


@pytest.fixture(scope="module")
def hydra(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The launcher of MPICH, from Debian's package, with its libraries; nothing is installed."""
    folder = tmp_path_factory.mktemp("mpich")
    depends = subprocess.run(["apt-cache", "depends", "mpich"], capture_output=True, text=True, check=True).stdout
    packages = ["mpich", *re.findall(r"Depends: (libslurm\d+|libhwloc\d+\w*)$", depends, re.MULTILINE)]
    subprocess.run(["apt-get", "download", "-q", *packages], cwd=folder, check=True, capture_output=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    (library,) = {path.parent for path in folder.rglob("libhwloc.so.15")}
    return ["env", f"LD_LIBRARY_PATH={library}", str(folder / "usr/bin/mpiexec.hydra"), "-n", "3"]


@pytest.mark.parametrize("name", IMAGES)
def test_strangers_are_refused(name: str, hydra: list[str]) -> None:
    """MPICH starts three processes of an image with Open MPI: each believes that it is alone."""
    said = run([*hydra, *in_image(name), "kit-ranks", "--ranks", "3"])
    assert said.code != 0
    assert [(rank["rank"], rank["size"]) for rank in said.ranks] == [(0, 1)] * 3
    assert len(said.problems) == 3
    for problem in said.problems:
        assert problem.startswith("kit-ranks: 3 ranks were asked for, and the MPI of this image (Open MPI v")
        assert "formed a job of 1" in problem
        assert "the launcher announces size 3 by PMI_SIZE" in problem
        assert 'In the site file: launcher = "mpirun"' in problem


def test_horovod_refuses_strangers_before_the_first_step(hydra: list[str]) -> None:
    """Horovod itself takes each of them for a job of one rank."""
    rank = [*in_image("horovod"), "/opt/venv/bin/python3", "-c"]
    alone = run([*hydra, *rank, "import horovod.tensorflow as hvd; hvd.init(); print(hvd.size())"])
    assert (alone.code, alone.ranks) == (0, [1, 1, 1])
    said = run([*hydra, *rank, "from kit.stages.ml.ranks import join; join('horovod')"])
    assert said.code != 0
    assert "ValueError: backend horovod joined 1 of the 3 processes that were started (PMI_SIZE=3)" in said.stderr


@pytest.mark.parametrize(
    ("variable", "announces"),
    [
        ("FLUX_JOB_SIZE=4", "size 4 by FLUX_JOB_SIZE, as Flux does"),
        ("JSM_NAMESPACE_SIZE=4", "size 4 by JSM_NAMESPACE_SIZE"),
        ("SLURM_STEP_NUM_TASKS=4", "size 4 by SLURM_STEP_NUM_TASKS"),
        ("PALS_LOCAL_SIZE=2", "size 2 by PALS_LOCAL_SIZE"),
        ("PALS_RANKID=3", "rank 3 by PALS_RANKID"),
        ("PMIX_RANK=1", "rank 1 by PMIX_RANK"),
        ("ALPS_APP_PE=1", "rank 1 by ALPS_APP_PE"),
        ("", "nothing in the environment announces a launcher"),
    ],
)
def test_what_a_launcher_announces_is_named(variable: str, announces: str) -> None:
    said = run([*in_image(), "env", *([variable] if variable else []), "kit-ranks", "--ranks", "4"])
    assert said.code == 1
    (problem,) = said.problems
    assert announces in problem
    assert said.ranks[0]["launcher"] == variable


def test_a_stage_of_one_process_that_is_started_twice_is_refused() -> None:
    said = run([*in_image(), "env", "PMI_SIZE=2", "kit-ranks", "--ranks", "1"])
    assert said.code == 1
    assert "1 ranks were asked for" in said.problems[0]
    assert "strangers" in said.problems[0]


HOST = os.uname().nodename


@pytest.mark.parametrize(
    ("started", "words", "problems"),
    [
        (3, "--ranks 4", ["4 ranks were asked for, and 3 were started.*launcher_args"]),
        (3, "--ranks 2", ["2 ranks were asked for, and 3 were started.*launcher_args"]),
        (2, "--ranks 2 --nodes 2", [rf"2 nodes were asked for, and the ranks are on 1: {HOST} \(ranks 0-1\).*launcher"]),
        (
            3,
            "--ranks 3 --nodes 2 --ranks-per-node 2",
            [rf"3 ranks are on {HOST} \(ranks 0-2\), but 2 of each node were asked for.*order", "2 nodes were asked for"],
        ),
        (1, "--ranks 1 --gpus 1", [f"rank 0 on {HOST}: GPUs seen, 0; asked of each node, 1.*gpu_request"]),
    ],
)
def test_what_was_not_planned_is_refused(started: int, words: str, problems: list[str]) -> None:
    said = inside(started, *words.split())
    assert said.code != 0
    assert [rank["rank"] for rank in said.ranks] == list(range(started))
    assert len(said.problems) == len(problems), said.stderr
    for found, expected in zip(said.problems, problems, strict=True):
        assert re.search(expected, found)
        assert "In the site file: " in found


def test_ranks_on_one_core_are_refused_where_they_should_have_their_own() -> None:
    core = min(os.sched_getaffinity(0))
    words = ["--ranks", "2", "--threads", "2"]
    command = ["taskset", "-c", str(core), *in_image(), *mpirun.command(Ranks(2, 2, 1), []), "kit-ranks", *words]
    said = run([*command, "--bind", "cores"])
    assert said.code != 0
    assert {rank["cores"] for rank in said.ranks} == {str(core)}
    few, shared = said.problems
    assert f"ranks 0-1 on {HOST}: bound to 1 core, but each rank computes on 2 threads" in few
    assert f"ranks 0 and 1 on {HOST} share core {core}" in shared
    assert all("In the site file: " in problem for problem in said.problems)
    assert run([*command, "--bind", "none"]).code == 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core cannot be divided")
def test_ranks_with_cores_of_their_own_are_let_through() -> None:
    first, second = sorted(os.sched_getaffinity(0))[:2]
    said = two(*(f"taskset -c {core} kit-ranks --ranks 2 --bind cores" for core in (first, second)))
    assert (said.code, said.problems) == (0, []), said.stderr
    assert [rank["cores"] for rank in said.ranks] == [str(first), str(second)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has no other to share with")
def test_hardware_threads_are_no_cores(tmp_path: Path) -> None:
    """Two hardware threads of one core, for two threads that should have a core each."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    (tmp_path / "siblings").write_text(f"{first},{second}\n")
    binds = []
    for core in (first, second):
        binds += ["--bind", f"{tmp_path}/siblings:/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"]
    command = ["taskset", "-c", f"{first},{second}", *in_image(IMAGE, *binds), *mpirun.command(Ranks(1, 1, 2), [])]
    command += ["kit-ranks", "--ranks", "1", "--threads", "2", "--bind", "cores"]
    assert run(command).code == 0
    said = run([*command, "--whole-cores"])
    assert said.code != 0
    (problem,) = said.problems
    assert f"rank 0 on {HOST}: bound to 1 whole core, but each rank computes on 2 threads" in problem
    assert "hyperthreads" in problem

    pair = (f"taskset -c {core} kit-ranks --ranks 2 --bind cores" for core in (first, second))
    said = two(*(f"{rank} --whole-cores" for rank in pair), *binds)
    assert said.code != 0
    (problem,) = said.problems
    assert f"ranks 0 and 1 on {HOST} share core {first}" in problem


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that hand in a driver, as --nv does."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler to make a driver with")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(DRIVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "cuda.c"], check=True)
    return ["--bind", f"{folder}:/mnt", "--env", "LD_LIBRARY_PATH=/mnt"]


def gpu(letter: str) -> str:
    word = f"{ord(letter):02x}"
    return "GPU-" + "-".join(word * count for count in (4, 2, 2, 2, 6))


@pytest.mark.parametrize(
    ("first", "second", "gpus", "problems"),
    [
        ("ab", "ab", 2, []),  # each rank sees those of the node
        ("a", "b", 2, []),  # or its own alone
        ("a", "a", 1, []),  # there is one, which they must share
        ("a", "a", 2, [f"ranks 0 and 1 on {HOST} each see one GPU, and it is the same, {gpu('a')}", "GPUs seen, 1;"]),
        ("ab", "ab", 4, [f"ranks 0-1 on {HOST}: GPUs seen, 2; asked of each node, 4"]),
        ("", "a", 2, ["GPUs seen, 1; asked of each node, 2"]),
    ],
)
def test_gpus_are_told_apart(driver: list[str], first: str, second: str, gpus: int, problems: list[str]) -> None:
    first_rank, second_rank = (f"env GPUS={seen} kit-ranks --ranks 2 --gpus {gpus}" for seen in (first, second))
    said = two(first_rank, second_rank, *driver)
    assert [rank["gpus"] for rank in said.ranks] == [[gpu(letter) for letter in seen] for seen in (first, second)]
    assert (said.code != 0) == bool(problems)
    assert len(said.problems) == len(problems), said.stderr
    for found, expected in zip(said.problems, problems, strict=True):
        assert expected in found
        assert "In the site file: gpu" in found


def test_a_job_that_never_comes_together_ends() -> None:
    """One of two ranks is no MPI program, and the other would wait for it."""
    said = two("kit-ranks --ranks 2 --timeout 3", "sleep 100")
    assert said.code != 0
    (problem,) = said.problems
    assert "did not bring 2 ranks together within 3 seconds" in problem
    assert "the table environment" in problem


def test_a_job_that_falls_silent_ends() -> None:
    """The other rank joins the job and then says nothing, as from a node whose network lets nothing through."""
    silent = "import ctypes, time; ctypes.CDLL('libmpi.so.40').MPI_Init(None, None); time.sleep(100)"
    said = two("kit-ranks --ranks 2 --timeout 5", f'python3 -c "{silent}"', name="horovod")
    assert said.code != 0
    (problem,) = said.problems
    assert "did not bring 2 ranks together within 5 seconds" in problem


def test_an_mpi_that_does_not_start_is_explained() -> None:
    """A variable of the user's shell that asks for a part which the image's MPI does not have."""
    said = run(
        [*in_image(), "env", "OMPI_MCA_pml=yalla", "kit-ranks", "--ranks", "1"]
    )  # no mpirun that mixes its own words in
    assert said.code != 0
    assert "yalla" in said.stderr
    (problem,) = said.problems
    assert f"on {HOST} the MPI of this image (Open MPI v" in problem
    assert "could not start, or not reach other nodes; its own words are above" in problem
    assert "the tables environment and modules" in problem


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "usage: kit-ranks --ranks N"),
        ("--ranks 0", "--ranks 0: not a number from 1"),
        ("--ranks 1 --gpus -1", "--gpus -1: not a number from 0"),
        ("--ranks 1 --bind core", "--bind core: neither cores nor none"),
        ("--ranks 1 --nodes 1x", "--nodes 1x: not a number from 1"),
        ("--ranks 1 more", "usage: kit-ranks --ranks N"),
        ("--ranks 1 --threats 2", "usage: kit-ranks --ranks N"),
    ],
)
def test_bad_usage_ends_2(words: str, message: str) -> None:
    said = run([*in_image(), "kit-ranks", *words.split()])
    assert said.code == 2
    assert message in said.stderr
    assert said.ranks == []
