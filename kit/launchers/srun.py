"""Slurm's srun."""

from __future__ import annotations

import math
from collections.abc import Sequence


def command(ranks: int, ranks_per_node: int, threads: int, args: Sequence[str]) -> list[str]:
    # Since Slurm 22.05 srun does not inherit --cpus-per-task from the job.
    return [
        "srun",
        f"--nodes={math.ceil(ranks / ranks_per_node)}",
        f"--ntasks={ranks}",
        f"--ntasks-per-node={ranks_per_node}",
        f"--cpus-per-task={threads}",
        "--distribution=cyclic",  # ranks are dealt out in turn, so that nodes differ by at most one
        "--kill-on-bad-exit=1",
        *args,
    ]
