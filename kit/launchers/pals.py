"""The mpiexec of HPE's Parallel Application Launch Service (PALS), on Cray machines with PBS."""

from __future__ import annotations

from collections.abc import Sequence

from kit.launchers.ranks import Ranks

ORDERS: tuple[str, ...] = ("block",)


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    words = ["mpiexec", "-n", str(ranks.count), "--ppn", str(ranks.per_node)]
    if ranks.pmi:
        words.append(f"--pmi={ranks.pmi}")
    if not ranks.bind:
        return [*words, "--cpu-bind", "none", *args]
    # --depth counts the cores of a rank; `depth` gives each rank the next so many.
    return [*words, "--depth", str(ranks.threads), "--cpu-bind", "depth", *args]
