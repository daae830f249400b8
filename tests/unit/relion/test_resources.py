"""What jobs are given of the nodes they run on."""

from __future__ import annotations

import pytest

from kit.benchmark import Size, load_benchmark
from kit.benchmarks.relion.resources import gpu_map, share
from kit.core.errors import KitError
from kit.core.schema import parse
from kit.placement import Placement, fill, placement
from kit.site import Partition, load_site

ONE_NODE = Placement(nodes=1, ranks=3, ranks_per_node=3, threads=1, cores=2)
MANY = Placement(nodes=2, ranks=9, ranks_per_node=5, threads=4, cores=24)


def test_ranks_and_threads() -> None:
    assert share("refine3d", ONE_NODE) == (3, 1)
    assert share("class2d", ONE_NODE) == (1, 2)
    assert share("class2d", MANY) == (9, 4)
    assert share("polish", MANY, training=True) == (1, 20)
    assert share("import", MANY) == (1, 1)


def test_every_working_rank_has_a_gpu() -> None:
    one = Placement(nodes=1, ranks=5, ranks_per_node=5, threads=6, cores=32, gpus=4)
    assert gpu_map(5, one) == "0:1:2:3"
    assert gpu_map(1, one) == "0,1,2,3"
    for nodes in (2, 3, 4):  # dealt out in turn, the leader to the first
        plan = Placement(nodes=nodes, ranks=4 * nodes + 1, ranks_per_node=5, threads=6, cores=32, gpus=4)
        devices = [int(gpu) for gpu in gpu_map(plan.ranks, plan).split(":")]
        places = [(rank % nodes, gpu) for rank, gpu in enumerate(devices, start=1)]
        assert sorted(places) == [(node, gpu) for node in range(nodes) for gpu in range(4)]
    shared = Placement(nodes=1, ranks=5, ranks_per_node=5, threads=6, cores=32, gpus=2)
    assert gpu_map(5, shared) == "0:1:0:1"
    assert gpu_map(5, ONE_NODE) == ""


def test_ranks_fill_the_nodes() -> None:
    """A leader and an even number of workers: RELION's halves are equal."""
    size = Size(description="x", minutes=1, ranks=0, nodes=2, threads=6)
    assert fill(size, 0, 64) == 19
    assert fill(size, 4, 64) == 9
    one = size.model_copy(update={"nodes": 1})
    assert [fill(one, gpus, 64) for gpus in (1, 2, 3, 4)] == [3, 3, 3, 5]
    assert fill(one, 0, 2) == 3
    site = load_site("example-slurm")
    plan = placement(load_benchmark("relion").sizes["aldolase"], site.partitions["cpu"], site)
    assert (plan.nodes, plan.ranks, plan.ranks_per_node, plan.threads) == (4, 63, 16, 4)


@pytest.mark.parametrize("scratch", ["local", "/a b", "/a:b", "/$USER", "/lo'cal", "~/x", "/"])
def test_a_scratch_folder_is_plain(scratch: str) -> None:
    """It stands in commands that RELION composes, which quote nothing."""
    with pytest.raises(KitError, match=r"x.toml: key 'scratch': expected an absolute path of letters, digits"):
        parse(Partition, {"scheduler": "slurm", "scratch": scratch}, "x.toml")
    assert parse(Partition, {"scheduler": "slurm", "scratch": "/local/kit"}, "x.toml").scratch == "/local/kit"
