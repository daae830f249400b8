"""Slurm's srun."""

from __future__ import annotations

from collections.abc import Sequence

from kit.launchers.ranks import Ranks

ORDERS: tuple[str, ...] = ("cyclic", "block")


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    # Since Slurm 22.05 srun does not inherit --cpus-per-task from the job.
    # Of ranks that do not fill the nodes evenly Slurm says that it ignores a number per node.
    each = [f"--ntasks-per-node={ranks.per_node}"] if ranks.even else []
    words = [
        "srun",
        f"--nodes={ranks.nodes}",
        f"--ntasks={ranks.count}",
        *each,
        f"--cpus-per-task={ranks.threads}",
        f"--distribution={ranks.order}",
        "--kill-on-bad-exit=1",
    ]
    if ranks.bind:
        words.append(f"--cpu-bind={'threads' if ranks.hyperthreads else 'cores'}")
    if ranks.gpu_each:
        words.append("--gpus-per-task=1")
    if ranks.pmi:
        words.append(f"--mpi={ranks.pmi}")
    return [*words, *args]
