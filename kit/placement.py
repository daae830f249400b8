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
    cores: int  # of one node, which threads may use
    gpus: int = 0  # of one node, which ranks compute on
    memory_gb: float = 0.0  # of one node, where it is known
    scratch: str = ""  # a folder on the node's own disk, as it is named in the container
    order: str = "cyclic"  # of ranks over nodes: dealt in turn, or `block`: one node after another
    gpu_each: bool = False  # each rank sees one GPU of its own
    bind: bool = False  # each rank has cores of its own

    @property
    def node_threads(self) -> int:
        """Threads that a stage of one process may use on its node."""
        return min(self.cores, self.ranks_per_node * self.threads)

    @property
    def fewest_ranks(self) -> int:
        """Ranks of the node that has the fewest."""
        if self.order == "cyclic":
            return self.ranks // self.nodes
        return self.ranks - (self.nodes - 1) * self.ranks_per_node

    def node_of(self, rank: int, ranks: int) -> tuple[int, int]:
        """The node that a rank of so many is on, and which of its node's ranks it is; both counted from 0."""
        if self.order == "cyclic":
            place, node = divmod(rank, min(ranks, self.nodes))
        else:
            node, place = divmod(rank, min(ranks, self.ranks_per_node))
        return node, place


# Where the site's scratch folder lies in a container, if its path has a variable that only the node knows.
SCRATCH_INSIDE = "/node-scratch"


def placement(
    size: Size,
    partition: Partition,
    site: Site,
    on_gpus: bool = False,
    here: tuple[int, float] | None = None,
    gpus: int | None = None,
    minutes: int | None = None,
) -> Placement:
    """The placement of a size on a partition; KitError if the partition is too small.

    `on_gpus` says whether the ranks compute on the GPUs that the partition may have, all of them or `gpus` of a node.
    `minutes` is the length of a job, where that is not what the size needs. `here` are cores and gigabytes of memory where
    the site does not say them: those of this machine if not given.
    """
    cores_here, memory_gb = here or this_machine()
    where = f"site {site.name}"
    if size.nodes < partition.min_nodes:
        raise KitError(
            f"{where}: the partition takes jobs of {partition.min_nodes} nodes or more; --nodes {partition.min_nodes}"
        )
    if size.nodes > partition.max_nodes:
        raise KitError(
            f"{where}: {size.nodes} nodes are needed, but the partition has at most {partition.max_nodes}; "
            "--nodes asks for fewer"
        )
    longest, minutes = partition.minutes_for(size.nodes), minutes or size.minutes
    if minutes > longest:
        raise KitError(
            f"{where}: {minutes} minutes are needed, but the partition gives at most {longest} to {size.nodes} "
            f"node{'s' if size.nodes > 1 else ''}; --minutes {longest} --jobs {math.ceil(minutes / longest)} makes as many "
            "jobs of it, each of which goes on where the one before ended"
        )
    if size.nodes > 1 and site.container.mpi == "inside":
        raise KitError(f"{where}: key 'container.mpi' is 'inside', which serves one node; set it to 'outside'")
    if gpus is not None and gpus > partition.gpus:
        raise KitError(f"{where}: {gpus} GPUs of a node are asked for, and a node has {partition.gpus} (key 'gpus')")
    if gpus and not on_gpus:
        raise KitError(f"{where}: {gpus} GPUs are asked for, and the image computes on CPUs; take another (--image)")
    cores = partition.usable_cores or cores_here
    used = (partition.gpus if gpus is None else gpus) if on_gpus else 0
    ranks = size.ranks or fill(size, used, cores)
    per_node = math.ceil(ranks / size.nodes)
    if ranks < size.nodes:
        raise KitError(
            f"{where}: {ranks} ranks cannot use {size.nodes} nodes; --nodes asks for fewer nodes, --ranks for more ranks"
        )
    if partition.scheduler != "local" and per_node * size.threads > cores:
        raise KitError(
            f"{where}: {per_node} ranks x {size.threads} threads a node are needed, but a node has {cores} cores "
            "(key 'cores' of the partition)"
        )
    gpu_each = bool(used) and partition.gpu_request == "task"
    if gpu_each and per_node > used:
        raise KitError(
            f'{where}: {per_node} ranks on a node and {used} GPUs, but with gpu_request = "task" each rank has its own; '
            "ask for them by node, or for fewer ranks (--ranks)"
        )
    order = "cyclic" if site.container.mpi == "inside" else partition.rank_order
    filled = math.ceil(ranks / per_node)
    if order == "block" and filled < size.nodes:
        raise KitError(
            f"{where}: {ranks} ranks, {per_node} on a node, fill {filled} of {size.nodes} nodes, and the launcher "
            f"{partition.launcher} fills one after another; --nodes {filled}, or another number of ranks (--ranks)"
        )
    scratch = partition.scratch
    if scratch.startswith("$"):
        if site.container.runtime == "host":
            raise KitError(f"{where}: key 'scratch' is {scratch}: without a container it cannot have a variable")
        scratch = SCRATCH_INSIDE
    return Placement(
        nodes=size.nodes,
        ranks=ranks,
        ranks_per_node=per_node,
        threads=size.threads,
        cores=cores,
        gpus=min(used, per_node) if gpu_each else used,
        memory_gb=partition.memory_gb or (memory_gb if partition.scheduler == "local" else 0.0),
        scratch=scratch,
        order=order,
        gpu_each=gpu_each,
        bind=partition.bind == "cores" and per_node * size.threads <= cores,
    )


def fill(size: Size, gpus: int, cores: int) -> int:
    """As many ranks as the nodes hold: one leading rank and an even number of working ranks; three at least.

    With `gpus` per node, there is one working rank for each GPU, and the leading rank comes on top.
    """
    room = size.nodes * gpus + 1 if gpus else size.nodes * max(1, cores // size.threads)
    return max(3, room - 1 + room % 2)


def warnings(benchmark: Benchmark, placement: Placement, partition: Partition) -> list[str]:
    """Warnings before a run starts: stages that need more memory than a node has, and GPUs that nobody uses."""
    idle = f"the {partition.gpus} GPUs of a node are not used, nor asked for: the image computes on CPUs (--image)"
    return [
        *([idle] if partition.gpus and not placement.gpus else []),
        *(
            f"stage {stage.name}: about {stage.memory_gb:.0f} GB of memory a node are needed, and it has "
            f"{placement.memory_gb:.0f}; take more nodes or fewer ranks (--nodes, --ranks)"
            for stage in benchmark.stages
            if placement.memory_gb and stage.memory_gb > placement.memory_gb
        ),
    ]
