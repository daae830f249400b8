"""The words of each launcher, and where its ranks lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.benchmark import load_benchmark
from kit.benchmarks.relion.resources import gpu_map
from kit.core.errors import KitError
from kit.launchers import LAUNCHERS, Ranks
from kit.placement import Placement, placement
from kit.plan import Request, make_plan
from kit.runs import launch
from kit.site import Partition, Site, load_site

EIGHT = Ranks(count=8, per_node=4, threads=16, cores=64, gpus=4, order="block", bind=True)


@pytest.mark.parametrize(
    ("name", "ranks", "words"),
    [
        (
            "srun",
            EIGHT,
            "srun --nodes=2 --ntasks=8 --ntasks-per-node=4 --cpus-per-task=16 --distribution=block --kill-on-bad-exit=1 "
            "--cpu-bind=cores",
        ),
        ("mpirun", EIGHT, "mpirun --allow-run-as-root -n 8 --map-by ppr:4:node:PE=16 --bind-to core"),
        (
            "intelmpi",
            EIGHT,
            "env I_MPI_JOB_RESPECT_PROCESS_PLACEMENT=off mpirun -n 8 -ppn 4 -genv I_MPI_PIN_CELL core "
            "-genv I_MPI_PIN_DOMAIN 16:compact",
        ),
        ("mpich", EIGHT, "mpiexec -n 8 -ppn 4 -bind-to core:16"),
        ("pals", EIGHT, "mpiexec -n 8 --ppn 4 --depth 16 --cpu-bind depth"),
        (
            "jsrun",
            EIGHT,
            "jsrun --nrs 2 --rs_per_host 1 --tasks_per_rs 4 --cpu_per_rs 64 --gpu_per_rs 4 --launch_distribution packed "
            "--bind packed:16",
        ),
        ("aprun", EIGHT, "aprun -n 8 -N 4 -j 1 -d 16 -cc depth"),
        ("flux", EIGHT, "flux run -N 2 -n 8 -c 16 --exclusive -o gpu-affinity=off -o cpu-affinity=per-task"),
        ("mpiexec", EIGHT, "mpiexec -n 8"),
        (
            "jsrun",
            Ranks(count=5, per_node=3, threads=4, order="block", bind=True),
            "jsrun --nrs 5 --rs_per_host 3 --tasks_per_rs 1 --cpu_per_rs 4 --gpu_per_rs 0 --bind packed:4",
        ),
        (
            "srun",
            Ranks(count=4, per_node=4, threads=2, gpus=4, gpu_each=True, bind=True, pmi="pmix"),
            "srun --nodes=1 --ntasks=4 --ntasks-per-node=4 --cpus-per-task=2 --distribution=cyclic --kill-on-bad-exit=1 "
            "--cpu-bind=cores --gpus-per-task=1 --mpi=pmix",
        ),
        ("mpirun", Ranks(3, 3, 1), "mpirun --allow-run-as-root -n 3 --oversubscribe --map-by node --bind-to none"),
        (
            "mpirun",
            Ranks(2, 2, 4, bind=True, hardware_threads=2, hyperthreads=True),
            "mpirun --allow-run-as-root -n 2 --use-hwthread-cpus --map-by node:PE=4 --bind-to hwthread",
        ),
    ],
)
def test_words(name: str, ranks: Ranks, words: str) -> None:
    assert LAUNCHERS[name].command(ranks, ["--mine"]) == [*words.split(), "--mine"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_leaves_ranks_unbound_on_request(name: str) -> None:
    loose = LAUNCHERS[name].command(Ranks(8, 4, 16), [])
    assert not {"cores", "--cpu-bind=cores", "depth", "packed:16", "core:16"} & set(loose)


def test_what_a_launcher_cannot_say_is_refused() -> None:
    with pytest.raises(KitError, match="has no word for 'pmi'"):
        LAUNCHERS["mpich"].command(Ranks(2, 1, 1, pmi="pmix"), [])
    with pytest.raises(KitError, match="do not fill 2 nodes evenly"):
        LAUNCHERS["jsrun"].command(Ranks(9, 5, 4, gpus=4), [])


def test_gpus_of_ranks_in_either_order() -> None:
    """Nine ranks on two nodes, the first of them without a GPU: each GPU has one, however the ranks are dealt."""
    for order in ("cyclic", "block"):
        laid = Placement(nodes=2, ranks=9, ranks_per_node=5, threads=6, cores=32, gpus=4, order=order)
        devices = gpu_map(9, laid).split(":")
        nodes = [laid.node_of(rank, 9)[0] for rank in range(1, 9)]
        assert sorted(zip(nodes, devices, strict=True)) == [(node, str(gpu)) for node in (0, 1) for gpu in range(4)]
    alone = Placement(nodes=1, ranks=5, ranks_per_node=5, threads=6, cores=32, gpus=4, gpu_each=True)
    assert gpu_map(5, alone) == "0:0:0:0"


@pytest.mark.parametrize(
    ("change", "asked", "message"),
    [
        ({}, {"gpus": 5}, "5 GPUs of a node are asked for, and a node has 4"),
        ({"gpu_request": "task"}, {}, "5 ranks on a node and 4 GPUs"),
        ({"min_nodes": 10}, {}, "the partition takes jobs of 10 nodes or more; --nodes 10"),
        ({"limits": [{"nodes": 4, "minutes": 5}]}, {}, "gives at most 5 to 2 nodes; --minutes 5 --jobs"),
        ({}, {"minutes": 3000}, "3000 minutes are needed, but the partition gives at most 2880"),
    ],
)
def test_impossible(change: dict[str, object], asked: dict[str, int], message: str) -> None:
    site = load_site("example-slurm")
    partition = Partition.model_validate({**site.partitions["cpu"].model_dump(), "gpus": 4, **change})
    wanted = load_benchmark("relion").sizes["tiny"].model_copy(update={"nodes": 2, "ranks": 9})
    with pytest.raises(KitError, match=message):
        placement(wanted, partition, site, on_gpus=True, **asked)


def test_limits_by_nodes() -> None:
    partition = Partition.model_validate(
        {
            "scheduler": "slurm",
            "max_nodes": 100,
            "max_minutes": 1440,
            "limits": [{"nodes": 24, "minutes": 60}, {"nodes": 10, "minutes": 180}],
        }
    )
    assert [partition.minutes_for(nodes) for nodes in (1, 10, 11, 24, 25)] == [180, 180, 60, 60, 1440]


def rendered(monkeypatch: pytest.MonkeyPatch, change: dict[str, object], **asked: object) -> str:
    """A script of RELION for GPUs on a partition that was changed."""
    table = load_site("example-slurm").model_dump()
    table["partitions"]["cpu"] |= {"gpus": 4, **change}
    request = Request("relion", "particles", "example-slurm", **asked)  # type: ignore[arg-type]
    return launch.script(make_plan(request, Site.model_validate(table)), Path("/run"), Path("/data"))


def test_a_gpu_of_its_own_for_each_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ranks ask for three GPUs, and three are looked for; on the last of two nodes there are two."""
    text = rendered(monkeypatch, {"gpu_request": "task"}, image="relion-cuda", ranks=3)
    assert "#SBATCH --gpus-per-task=1" in text
    assert "# 3 of 4 GPUs of a node, one for each rank" in text
    assert "--ranks-per-node 3 --threads 1 --gpus 3 " in text
    assert "--ranks-per-node 3 --threads 1 --gpus 2 " in rendered(
        monkeypatch, {"gpu_request": "task"}, image="relion-cuda", ranks=5, nodes=2
    )


def test_ranks_have_all_nodes_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine on four are dealt 3, 2, 2, 2; a launcher that fills nodes would leave one without any."""
    text = rendered(monkeypatch, {}, ranks=9, nodes=4)
    assert "srun --nodes=4 --ntasks=9 --cpus-per-task=1 --distribution=cyclic" in text
    assert "kit-ranks --ranks 9 --nodes 4 --ranks-per-node 3" in text
    with pytest.raises(KitError, match="9 ranks, 3 on a node, fill 3 of 4 nodes"):
        rendered(monkeypatch, {"order": "block"}, ranks=9, nodes=4)
    assert "which fill one node after another" in rendered(monkeypatch, {"order": "block"}, ranks=11, nodes=4)


def test_halves_need_an_odd_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for ranks in (2, 4):
        with pytest.raises(KitError, match=r"stage refine3d: . ranks are given; one leads and two halves share"):
            rendered(monkeypatch, {}, ranks=ranks)


def test_gpus_that_nobody_uses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "# WARNING: the 4 GPUs of a node are not used" in rendered(monkeypatch, {})
    assert "WARNING" not in rendered(monkeypatch, {}, image="relion-cuda")
