"""The placement of ranks on nodes: the arithmetic of nodes, ranks, threads and GPUs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kit.benchmark import Benchmark, Size
from kit.core.errors import KitError
from kit.core.host import this_machine
from kit.site import Partition, Site


@dataclass(frozen=True)
class Placement:
    """How the ranks of a size lie on the nodes of a partition."""

    nodes: int
    ranks: int
    ranks_per_node: int
    threads: int
    cores: int  # of one node
    gpus: int = 0  # of one node, where the site says it
    memory_gb: float = 0.0  # of one node, where it is known
    scratch: str = ""

    @property
    def node_threads(self) -> int:
        """Threads that a stage of one process may use on its node."""
        return min(self.cores, self.ranks_per_node * self.threads)


def placement(
    size: Size, partition: Partition, site: Site, on_gpus: bool = False, here: tuple[int, float] | None = None
) -> Placement:
    """The placement of a size on a partition; KitError if the partition is too small.

    `on_gpus` says whether the ranks compute on the GPUs that the partition may have. `here` are cores and gigabytes of
    memory where the site does not say them: those of this machine if not given.
    """
    cores_here, memory_gb = here or this_machine()
    if size.nodes > partition.max_nodes:
        raise KitError(
            f"site {site.name}: {size.nodes} nodes are needed, but the partition has at most {partition.max_nodes}; "
            "--nodes asks for fewer"
        )
    if size.minutes > partition.max_minutes:
        raise KitError(
            f"site {site.name}: {size.minutes} minutes are needed, but the partition gives at most {partition.max_minutes}"
        )
    if size.nodes > 1 and site.container.mpi == "inside":
        raise KitError(f"site {site.name}: key 'container.mpi' is 'inside', which serves one node; set it to 'outside'")
    cores = partition.cores or cores_here
    ranks = size.ranks or fill(size, partition.gpus if on_gpus else 0, cores)
    per_node = math.ceil(ranks / size.nodes)
    if partition.scheduler != "local" and per_node * size.threads > cores:
        raise KitError(
            f"site {site.name}: {per_node} ranks x {size.threads} threads a node are needed, but a node has {cores} cores "
            "(key 'cores' of the partition)"
        )
    return Placement(
        nodes=size.nodes,
        ranks=ranks,
        ranks_per_node=per_node,
        threads=size.threads,
        cores=cores,
        gpus=partition.gpus,
        memory_gb=partition.memory_gb or (memory_gb if partition.scheduler == "local" else 0.0),
        scratch=partition.scratch,
    )


def fill(size: Size, gpus: int, cores: int) -> int:
    """As many ranks as the nodes hold: one leading rank and an even number of working ranks; three at least.

    With `gpus` per node, there is one working rank for each GPU, and the leading rank comes on top.
    """
    room = size.nodes * gpus + 1 if gpus else size.nodes * max(1, cores // size.threads)
    return max(3, room - 1 + room % 2)


def warnings(benchmark: Benchmark, placement: Placement) -> list[str]:
    """Warnings before a run starts: stages that need more memory than a node has."""
    return [
        f"stage {stage.name}: about {stage.memory_gb:.0f} GB of memory a node are needed, and it has "
        f"{placement.memory_gb:.0f}; take more nodes or fewer ranks (--nodes, --ranks)"
        for stage in benchmark.stages
        if placement.memory_gb and stage.memory_gb > placement.memory_gb
    ]
