"""MPICH's mpiexec, which is Hydra."""

from __future__ import annotations

from collections.abc import Sequence

from kit.launchers.ranks import Ranks, no_pmi

ORDERS: tuple[str, ...] = ("block", "cyclic")


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    no_pmi("mpich", ranks)
    words = ["mpiexec", "-n", str(ranks.count), "-ppn", str(ranks.per_node if ranks.order == "block" else 1)]
    if not ranks.bind:
        return [*words, "-bind-to", "none", *args]
    return [*words, "-bind-to", f"{'hwthread' if ranks.hyperthreads else 'core'}:{ranks.threads}", *args]
