"""IBM's jsrun: one resource set for each node, which holds the node's cores and GPUs and the ranks that share them."""

from __future__ import annotations

from collections.abc import Sequence

from kit.core.errors import KitError
from kit.launchers.ranks import Ranks, no_pmi

ORDERS: tuple[str, ...] = ("block",)


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    no_pmi("jsrun", ranks)
    # Physical cores, whether ranks use their hardware threads or not: alloc_flags of the job says that.
    bind = ["--bind", f"packed:{ranks.cores_each}" if ranks.bind else "none"]
    if ranks.even:
        cores = ranks.cores // (ranks.hardware_threads if ranks.hyperthreads else 1) or ranks.per_node * ranks.cores_each
        sets = ["--nrs", str(ranks.nodes), "--rs_per_host", "1", "--tasks_per_rs", str(ranks.per_node)]
        sets += ["--cpu_per_rs", str(cores), "--gpu_per_rs", str(ranks.gpus)]
        return ["jsrun", *sets, "--launch_distribution", "packed", *bind, *args]
    if ranks.gpus:
        raise KitError(
            f"jsrun: {ranks.count} ranks do not fill {ranks.nodes} nodes evenly, which it cannot say for ranks that share "
            "the GPUs of a node; take a number of ranks that the nodes divide, or one node"
        )
    # Nodes with unlike numbers of ranks: a resource set for each rank, which sees its own cores only.
    sets = ["--nrs", str(ranks.count), "--rs_per_host", str(ranks.per_node), "--tasks_per_rs", "1"]
    return ["jsrun", *sets, "--cpu_per_rs", str(ranks.cores_each), "--gpu_per_rs", "0", *bind, *args]
