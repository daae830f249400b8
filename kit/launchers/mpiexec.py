"""The mpiexec of a scheduler that places the ranks itself, by what its directives say: that of PJM on Fugaku."""

from __future__ import annotations

from collections.abc import Sequence

from kit.launchers.ranks import Ranks, no_pmi

ORDERS: tuple[str, ...] = ("block",)


def command(ranks: Ranks, args: Sequence[str]) -> list[str]:
    no_pmi("mpiexec", ranks)
    return ["mpiexec", "-n", str(ranks.count), *args]
