"""Strangers: processes of one launcher that no MPI joined into one job. They are refused before the first step."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kit.core.paths import PACKAGE
from kit.images.recipes import RECIPES, parts
from kit.images.render import context_root, load_image, recipe
from kit.stages.ml import ranks

VARIABLES = (*ranks.SIZES, *ranks.LOCAL_SIZES, *ranks.RANKS)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever started the tests announces nothing, and there is no TensorFlow to ask for a GPU."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ranks, "take_gpu", lambda number: "CPU")
    monkeypatch.setattr(ranks, "gpus", lambda: [])
    for name in ("HOROVOD_FUSION_THRESHOLD", "OMPI_MCA_mpi_yield_when_idle"):
        monkeypatch.setenv(name, "1")  # by whoever set it, which stays; and is gone after the test


def horovod(
    monkeypatch: pytest.MonkeyPatch, rank: int, size: int, gather: Callable[[Any], list[Any]] | None = None
) -> ranks.Horovod:
    """The backend on a Horovod that came out as this rank of that many."""
    fake = ModuleType("horovod.tensorflow")
    vars(fake).update(
        init=lambda: None,
        rank=lambda: rank,
        size=lambda: size,
        local_rank=lambda: 0,
        local_size=lambda: size,
        allgather_object=gather or (lambda value: [value] * size),
    )
    monkeypatch.setitem(sys.modules, "horovod", SimpleNamespace(tensorflow=fake))
    monkeypatch.setitem(sys.modules, "horovod.tensorflow", fake)
    return ranks.Horovod()


# What each launcher tells its second of four processes on two nodes.
LAUNCHERS = {
    "horovodrun": {"HOROVOD_SIZE": "4", "HOROVOD_RANK": "1"},
    "mpirun": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "PMIX_RANK": "1"},
    "mvapich2": {"MV2_COMM_WORLD_SIZE": "4"},
    "mpich": {"PMI_SIZE": "4", "PMI_RANK": "1", "MPI_LOCALNRANKS": "2"},
    "jsrun": {"JSM_NAMESPACE_SIZE": "4", "JSM_NAMESPACE_RANK": "1"},
    "flux": {"FLUX_JOB_SIZE": "4", "FLUX_TASK_RANK": "1"},
    "srun": {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "PMIX_RANK": "1"},
}
# Those that say no number of processes, but from which more than one can be told.
VAGUE = {
    "pals": {"PALS_LOCAL_SIZE": "2", "PALS_RANKID": "0"},
    "pals, rank 1": {"PALS_RANKID": "1"},
    "hydra": {"MPI_LOCALNRANKS": "2"},
    "pmix": {"PMIX_RANK": "1"},
    "pmi": {"PMI_RANK": "1"},
    "aprun": {"ALPS_APP_PE": "1"},
}


def refused(words: str) -> Callable[[Any], list[Any]]:
    def gather(value: Any) -> list[Any]:
        raise RuntimeError(words)

    return gather


def test_two_ranks_on_one_gpu_are_told_what_nccl_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    nccl = "{{function_node HorovodAllgather_device_GPU:0}} ncclCommInitRank failed: invalid usage"  # as on an H100
    with pytest.raises(ValueError, match=r"2 on this node.*invalid usage.*--ranks"):
        horovod(monkeypatch, 0, 2, refused(nccl))
    with pytest.raises(RuntimeError, match="connection reset"):
        horovod(monkeypatch, 0, 2, refused("connection reset"))


def test_a_rank_alone_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert horovod(monkeypatch, 0, 1).sum([1, 2]) == [1, 2]  # the fake has no allreduce


@pytest.mark.parametrize(("seen", "threshold"), [([], str(2**20)), (["GPU"], None)])
def test_large_tensors_skip_horovods_buffer_on_processors(
    seen: list[str], threshold: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOROVOD_FUSION_THRESHOLD")
    monkeypatch.setattr(ranks, "gpus", lambda: seen)
    horovod(monkeypatch, 0, 1)
    assert os.environ.get("HOROVOD_FUSION_THRESHOLD") == threshold


@pytest.mark.parametrize("backend", ranks.BACKENDS)
@pytest.mark.parametrize("launcher", [*LAUNCHERS, *VAGUE])
def test_strangers_are_refused(launcher: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = (LAUNCHERS | VAGUE)[launcher]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    started = 4 if launcher in LAUNCHERS else 2
    with pytest.raises(ValueError, match=f"{started} were started|of the {started} processes that were started") as error:
        horovod(monkeypatch, 0, 1) if backend == "horovod" else ranks.Single()
    assert any(name in str(error.value) for name in variables)
    assert ("--ranks 1" if backend == "single" else "In the site file") in str(error.value)


@pytest.mark.parametrize("launcher", [*LAUNCHERS, *VAGUE])
def test_a_job_that_came_together_is_let_through(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (LAUNCHERS | VAGUE)[launcher].items():
        monkeypatch.setenv(name, value)
    joined = horovod(monkeypatch, 1, 4)
    assert (joined.rank, joined.size, joined.devices) == (1, 4, ["CPU"] * 4)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "8"},  # of the job, in whose batch script one process is started without srun
        {"OMPI_COMM_WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "2"},  # mpirun, whose daemons srun started
        {"PMI_SIZE": "1", "PMI_RANK": "0", "MPI_LOCALNRANKS": "1"},
        {"PMIX_RANK": "0"},
        {"PMI_SIZE": "", "PMIX_RANK": "none"},
    ],
)
def test_one_process_is_one_process(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert horovod(monkeypatch, 0, 1).size == ranks.Single().size == 1


def test_half_a_job_is_refused() -> None:
    """Ranks that found only those of their own node."""
    with pytest.raises(ValueError, match=r"joined 2 of the 4 processes that were started \(PMI_SIZE=4\)"):
        ranks.refuse_strangers("horovod", 2, {"PMI_SIZE": "4"})


def test_kit_ranks_looks_at_the_same_variables() -> None:
    """In the same order: where several are set, both believe the same one. kit-ranks needs no Horovod."""
    text = (PACKAGE / "images/recipes/ranks.c").read_text()
    found: dict[str, list[str]] = {"SIZE": [], "LEAST": [], "RANK": []}
    for kind, name in re.findall(r'\{(SIZE|LEAST|RANK), "(\w+)"', text):
        found[kind].append(name)
    assert found == {
        "SIZE": [name for name in ranks.SIZES if name != "HOROVOD_SIZE"],
        "LEAST": list(ranks.LOCAL_SIZES),
        "RANK": list(ranks.RANKS),
    }


@pytest.mark.parametrize("name", RECIPES)
def test_every_image_with_mpi_has_kit_ranks(name: str) -> None:
    """And tries it; an image without MPI says so."""
    has_mpi = "openmpi" in recipe(load_image(name), "docker") or name in ("relion-basic", "relion-5")
    assert load_image(name).mpi == ("openmpi" if has_mpi else "")
    for format in ("docker", "singularity"):
        assert ("/usr/local/bin/kit-ranks" in recipe(load_image(name), format)) == has_mpi
    (selftest,) = (path for path in RECIPES[name].CONTEXT if path.endswith("selftest.sh"))
    assert ("kit-ranks" in (context_root() / selftest).read_text()) == (parts.RANKS in RECIPES[name].CONTEXT) == has_mpi


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].MPI])
def test_kit_ranks_is_built_apart(name: str) -> None:
    """On the suite of the image, with whose MPI it runs, and in a stage in which nothing else is built."""
    text = recipe(load_image(name), "docker")
    (stage,) = (part for part in re.split(r"(?m)^(?=FROM )", text) if " AS ranks\n" in part)
    assert stage.startswith(f"FROM debian:{RECIPES[name].SUITE}-slim AS ranks\n")
    assert "relion" not in stage
    assert "venv" not in stage
    assert text.count(parts.RANKS) == 1
